"""What a device can do to us: run out of memory, reckon nonsense, refuse to decode, in the middle of the jobs of others."""

from tests.faults import failing_prompts
from tests.faults.service_under_test import ServiceUnderTest
from tools.private_broker import PrivateBroker

CODES = {
    failing_prompts.OUT_OF_MEMORY: "out_of_memory",
    failing_prompts.NOT_A_NUMBER: "model_error",
    failing_prompts.UNDECODABLE: "model_error",
}


def test_jobs_that_the_device_fails_for_fail_alone(broker: PrivateBroker) -> None:
    with ServiceUnderTest(fake_denoiser=False, broker=broker, failpoint="device_fails") as service:
        reference = service.reference_run()
        pid = service.requestds[0].process.pid
        bad = {f"{prompt}/{number}": prompt for number in range(2) for prompt in CODES}
        kinds = list(service.client.kinds)
        for number, (job_id, prompt) in enumerate(bad.items()):
            service.client.records.add(job_id, prompt)
            service.client.publish({"id": job_id, "prompt": prompt, "width": 64, "height": 64, "steps": 3, "count": 2})
            service.client.records.confirm(job_id)
            for kind in kinds[2 * number : 2 * number + 2]:
                service.client.submit(kind)
        service.settle()
        for job_id, prompt in bad.items():
            [end] = service.client.records.jobs.pop(job_id).ends
            assert end.head["error"]["code"] == CODES[prompt]  # type: ignore[index]  # a field of JSON
        assert not service.client.records.lost()
        assert not service.client.records.wrong(reference)
        assert service.requestds[0].process.pid == pid
