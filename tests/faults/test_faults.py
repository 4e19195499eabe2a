"""Each fault once, on a real broker: every job has its one end, and the pictures of an reference run.

All of them at random and for hours: ``benchmarks/soak.py``.
"""

import random
import signal
import time
from collections.abc import Iterator

import pytest

from stablediffusiond.broker.topology import REQUEST_DELIVERY_LIMIT
from tests.faults import broker_faults, client_faults, daemon_faults, failing_prompts, faults, network_faults
from tests.faults.job_kinds import Fields
from tests.faults.job_records import JobRecord
from tests.faults.requestd_with_failpoint import HANGS_AFTER_SECONDS, KILLING, REDELIVERIES
from tests.faults.service_under_test import ServiceUnderTest
from tools.daemons import Daemon

pytestmark = pytest.mark.usefixtures("new_records")

#: Those that are over within seconds; the soak has the others too.
QUICK = (
    daemon_faults.stop_requestd,
    daemon_faults.kill_responsed,
    client_faults.client_reset,
    client_faults.client_dies,
    network_faults.connections_reset,
    network_faults.connection_cut_inside_a_frame,
    broker_faults.close_all_connections,
    broker_faults.memory_alarm,
    broker_faults.disk_alarm,
    broker_faults.results_refused,
    broker_faults.permissions_revoked,
    broker_faults.kill_broker,
)
INNOCENT = 30
WATCHDOG_SECONDS = 1.5


@pytest.fixture(scope="module")
def service() -> Iterator[ServiceUnderTest]:
    with ServiceUnderTest(
        fake_denoiser=True, environment={"WATCHDOG_USEC": str(int(WATCHDOG_SECONDS * 1_000_000))}
    ) as made:
        made.broker.settle()
        yield made


def submit_some(service: ServiceUnderTest, count: int) -> None:
    kinds = list(service.client.kinds)
    for number in range(count):
        service.client.submit(kinds[number % len(kinds)])


@pytest.mark.parametrize("failpoint", KILLING, ids=lambda failpoint: failpoint.__name__)
def test_a_daemon_that_dies_at_this_moment(
    service: ServiceUnderTest, reference: dict[str, JobRecord], failpoint: faults.Fault
) -> None:
    daemon = service.restart_requestd(failpoint.__name__)
    submit_some(service, 8)
    assert daemon.process.wait(120) == -9
    service.settle()
    service.check(reference)


@pytest.mark.parametrize("fault", QUICK, ids=lambda fault: fault.__name__)
def test_a_fault_among_jobs(service: ServiceUnderTest, reference: dict[str, JobRecord], fault: faults.Fault) -> None:
    submit_some(service, 8)
    fault(service, random.Random(1))
    submit_some(service, 8)
    service.settle()
    service.check(reference)


def test_a_poisoned_job_takes_nobody_with_it(service: ServiceUnderTest, reference: dict[str, JobRecord]) -> None:
    daemon = service.restart_requestd()
    publish(service, "poisoned", {"prompt": failing_prompts.POISON, "width": 64, "height": 64, "steps": 2})
    submit_some(service, INNOCENT)
    for _ in range(REQUEST_DELIVERY_LIMIT):
        assert daemon.process.wait(120) == -9
        daemon = service.restart_requestd()
    assert daemon.process.wait(120) == -9
    service.settle()
    [end] = service.client.records.jobs.pop("poisoned").ends
    assert end.head["error"]["code"] == "crashed"  # type: ignore[index]  # a field of JSON
    assert not service.client.records.wrong(reference)
    service.wait_depths({".dead": 1})
    service.ctl("purge_queue", service.topology.dead)


def test_a_job_outlives_more_connections_than_it_has_deliveries(service: ServiceUnderTest) -> None:
    daemon = service.restart_requestd("slow_until_redelivered").wait_ready()
    publish(service, "long", {"prompt": "cat", "width": 64, "height": 64, "steps": 150})
    daemon.wait_log("job long begins")
    for times in range(1, REDELIVERIES + 1):
        service.ctl("close_all_connections", "a fault made on purpose")
        daemon.wait_log(rf"(?s)(recognised.*){{{times}}}")
    service.settle()
    [end] = service.client.records.jobs["long"].ends
    assert end.head["type"] == "done"
    assert daemon.log.count("job long begins") == 1


def test_a_daemon_whose_log_nobody_takes_draws_on(service: ServiceUnderTest, reference: dict[str, JobRecord]) -> None:
    daemon = service.restart_requestd("log_discarded").wait_ready()
    submit_some(service, 2)
    service.ctl("close_all_connections", "a reason to log a warning")
    submit_some(service, 2)
    assert service.client.records.wait_for_all(60)
    assert daemon.stop() == 0
    assert daemon.log == "", "it was heard after all"
    service.settle()
    service.check(reference)


def test_a_device_that_hangs_is_ended_by_the_watchdog_and_a_long_job_is_not(
    service: ServiceUnderTest, reference: dict[str, JobRecord]
) -> None:
    daemon = service.restart_requestd("device_hangs").wait_ready()
    long = {"prompt": "a long job", "width": 64, "height": 64, "steps": 150, "count": 2}
    began = time.monotonic()
    publish(service, "long", long)
    while not service.client.records.wait_for_all(0.1):
        assert fed_within(daemon, WATCHDOG_SECONDS)
    assert time.monotonic() - began > 2 * HANGS_AFTER_SECONDS

    publish(service, "hung", {**long, "prompt": failing_prompts.HANGING, "steps": 2, "count": 1})
    submit_some(service, 8)
    daemon.wait_log("job hung begins")
    while fed_within(daemon, WATCHDOG_SECONDS):
        pass
    daemon.process.send_signal(signal.SIGABRT)  # as systemd does
    assert daemon.process.wait(20) == -signal.SIGABRT
    service.settle()
    for job_id in ("long", "hung"):
        [end] = service.client.records.jobs.pop(job_id).ends
        assert end.head["type"] == "done"
    service.check(reference)


def test_a_clock_that_jumps_ends_no_job_early_and_none_late(service: ServiceUnderTest) -> None:
    service.restart_requestd("clock_jumps").wait_ready()
    fields = {"prompt": "cat", "width": 64, "height": 64, "steps": 3, "deadline_seconds": 60}
    publish(service, "in time", fields)
    assert service.client.records.wait_for_all(60)
    publish(service, "too late", {**fields, "steps": 150, "count": 4, "deadline_seconds": 1})
    assert service.client.records.wait_for_all(60)
    service.restart_requestd()
    ends = {job_id: account.ends[0].head for job_id, account in service.client.records.jobs.items()}
    assert ends["in time"]["type"] == "done", ends
    assert ends["too late"]["error"]["code"] == "expired"  # type: ignore[index]  # a field of JSON


def publish(service: ServiceUnderTest, job_id: str, fields: Fields) -> None:
    service.client.records.add(job_id, job_id)
    service.client.publish({"id": job_id, **fields})
    service.client.records.confirm(job_id)


def fed_within(daemon: Daemon, seconds: float) -> bool:
    """Whether the watchdog hears from ``daemon`` in that time."""
    fed, deadline = daemon.notices.count("WATCHDOG=1"), time.monotonic() + seconds
    while daemon.notices.count("WATCHDOG=1") == fed:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
