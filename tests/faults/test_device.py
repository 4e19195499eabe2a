"""What a device can do to us: run out of memory, reckon nonsense, refuse to decode, in the middle of the jobs of others."""

from tests.faults import prompts
from tests.faults.bench import Bench
from tools.private_broker import PrivateBroker

CODES = {
    prompts.OUT_OF_MEMORY: "out_of_memory",
    prompts.NOT_A_NUMBER: "model_error",
    prompts.UNDECODABLE: "model_error",
}


def test_jobs_that_the_device_fails_for_fail_alone(broker: PrivateBroker) -> None:
    with Bench(stand_in=False, broker=broker, phase="device_fails") as bench:
        undisturbed = bench.undisturbed()
        pid = bench.requestds[0].process.pid
        bad = {f"{prompt}/{number}": prompt for number in range(2) for prompt in CODES}
        kinds = list(bench.kinds)
        for number, (job_id, prompt) in enumerate(bad.items()):
            bench.books.open(job_id, prompt)
            bench.publish({"id": job_id, "prompt": prompt, "width": 64, "height": 64, "steps": 3, "count": 2})
            bench.books.confirm(job_id)
            for kind in kinds[2 * number : 2 * number + 2]:
                bench.submit(kind)
        bench.settle()
        for job_id, prompt in bad.items():
            [end] = bench.books.accounts.pop(job_id).ends
            assert end.head["error"]["code"] == CODES[prompt]  # type: ignore[index]  # a field of JSON
        assert not bench.books.lost()
        assert not bench.books.wrong(undisturbed)
        assert bench.requestds[0].process.pid == pid
