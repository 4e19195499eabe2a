"""Each fault once, on a real broker: every job has its one end, and the pictures of an undisturbed run.

All of them at random and for hours: ``benchmarks/soak.py``.
"""

import random
import signal
import time
from collections.abc import Iterator

import pytest

from stablediffusiond.broker.topology import REQUEST_DELIVERY_LIMIT
from tests.faults import faults, prompts
from tests.faults.bench import Bench
from tests.faults.books import Account, Fields
from tests.faults.dying import HUNG_AFTER_SECONDS, KILLS
from tools.daemons import Daemon

pytestmark = pytest.mark.usefixtures("new_books")

#: Those that are over within seconds; the soak has the others too.
QUICK = (
    faults.stop_requestd,
    faults.kill_responsed,
    faults.client_reset,
    faults.client_dies,
    faults.connections_reset,
    faults.connection_cut_inside_a_frame,
    faults.close_all_connections,
    faults.memory_alarm,
    faults.disk_alarm,
    faults.results_refused,
    faults.permissions_revoked,
    faults.kill_broker,
)
INNOCENT = 30
WATCHDOG_SECONDS = 1.5


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with Bench(stand_in=True, environment={"WATCHDOG_USEC": str(int(WATCHDOG_SECONDS * 1_000_000))}) as made:
        yield made


def submit_some(bench: Bench, count: int) -> None:
    kinds = list(bench.kinds)
    for number in range(count):
        bench.submit(kinds[number % len(kinds)])


@pytest.mark.parametrize("phase", KILLS, ids=lambda phase: phase.__name__)
def test_a_daemon_that_dies_at_this_moment(bench: Bench, undisturbed: dict[str, Account], phase: faults.Fault) -> None:
    daemon = bench.restart_requestd(phase.__name__)
    submit_some(bench, 8)
    assert daemon.process.wait(120) == -9
    bench.settle()
    bench.check(undisturbed)


@pytest.mark.parametrize("fault", QUICK, ids=lambda fault: fault.__name__)
def test_a_fault_among_jobs(bench: Bench, undisturbed: dict[str, Account], fault: faults.Fault) -> None:
    bench.broker.settle()
    submit_some(bench, 8)
    fault(bench, random.Random(1))
    submit_some(bench, 8)
    bench.settle()
    bench.check(undisturbed)


def test_a_poisoned_job_takes_nobody_with_it(bench: Bench, undisturbed: dict[str, Account]) -> None:
    daemon = bench.restart_requestd()
    publish(bench, "poisoned", {"prompt": prompts.POISON, "width": 64, "height": 64, "steps": 2})
    submit_some(bench, INNOCENT)
    for _ in range(REQUEST_DELIVERY_LIMIT):
        assert daemon.process.wait(120) == -9
        daemon = bench.restart_requestd()
    assert daemon.process.wait(120) == -9
    bench.settle()
    [end] = bench.books.accounts.pop("poisoned").ends
    assert end.head["error"]["code"] == "crashed"  # type: ignore[index]  # a field of JSON
    assert not bench.books.wrong(undisturbed)
    bench.wait_depths({".dead": 1})
    bench.ctl("purge_queue", bench.topology.dead)


def test_a_job_outlives_more_connections_than_it_has_deliveries(bench: Bench) -> None:
    daemon = bench.restart_requestd("slow_steps").wait_ready()
    publish(bench, "long", {"prompt": "cat", "width": 64, "height": 64, "steps": 30})
    daemon.wait_log("job long begins")
    for times in range(1, REQUEST_DELIVERY_LIMIT + 3):
        bench.ctl("close_all_connections", "a fault made on purpose")
        daemon.wait_log(rf"(?s)(recognised.*){{{times}}}")
    bench.settle()
    [end] = bench.books.accounts["long"].ends
    assert end.head["type"] == "done"
    assert daemon.log.count("job long begins") == 1


def test_a_daemon_whose_log_nobody_takes_draws_on(bench: Bench, undisturbed: dict[str, Account]) -> None:
    daemon = bench.restart_requestd("unheard").wait_ready()
    submit_some(bench, 2)
    bench.ctl("close_all_connections", "a reason to log a warning")
    submit_some(bench, 2)
    assert bench.books.wait_for_ends(60)
    assert daemon.stop() == 0
    assert daemon.log == "", "it was heard after all"
    bench.settle()
    bench.check(undisturbed)


def test_a_device_that_hangs_is_ended_by_the_watchdog_and_a_long_job_is_not(
    bench: Bench, undisturbed: dict[str, Account]
) -> None:
    daemon = bench.restart_requestd("hung").wait_ready()
    long = {"prompt": "a long job", "width": 64, "height": 64, "steps": 150, "count": 2}
    began = time.monotonic()
    publish(bench, "long", long)
    while not bench.books.wait_for_ends(0.1):
        assert fed_within(daemon, WATCHDOG_SECONDS)
    assert time.monotonic() - began > 2 * HUNG_AFTER_SECONDS

    publish(bench, "hung", {**long, "prompt": prompts.HANGING, "steps": 2, "count": 1})
    submit_some(bench, 8)
    daemon.wait_log("job hung begins")
    while fed_within(daemon, WATCHDOG_SECONDS):
        pass
    daemon.process.send_signal(signal.SIGABRT)  # as systemd does
    assert daemon.process.wait(20) == -signal.SIGABRT
    bench.settle()
    for job_id in ("long", "hung"):
        [end] = bench.books.accounts.pop(job_id).ends
        assert end.head["type"] == "done"
    bench.check(undisturbed)


def test_a_clock_that_jumps_ends_no_job_early_and_none_late(bench: Bench) -> None:
    bench.restart_requestd("clock_jumps").wait_ready()
    fields = {"prompt": "cat", "width": 64, "height": 64, "steps": 3, "deadline_seconds": 60}
    publish(bench, "in time", fields)
    assert bench.books.wait_for_ends(60)
    publish(bench, "too late", {**fields, "steps": 150, "count": 4, "deadline_seconds": 1})
    assert bench.books.wait_for_ends(60)
    bench.restart_requestd()
    ends = {job_id: account.ends[0].head for job_id, account in bench.books.accounts.items()}
    assert ends["in time"]["type"] == "done", ends
    assert ends["too late"]["error"]["code"] == "expired"  # type: ignore[index]  # a field of JSON


def publish(bench: Bench, job_id: str, fields: Fields) -> None:
    bench.books.open(job_id, job_id)
    bench.publish({"id": job_id, **fields})
    bench.books.confirm(job_id)


def fed_within(daemon: Daemon, seconds: float) -> bool:
    """Whether the watchdog hears from ``daemon`` in that time."""
    fed, deadline = daemon.notices.count("WATCHDOG=1"), time.monotonic() + seconds
    while daemon.notices.count("WATCHDOG=1") == fed:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
