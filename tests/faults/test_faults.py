"""Each fault once, on a real broker: every job has its one end, and the pictures of an undisturbed run.

All of them at random and for hours: ``benchmarks/soak.py``.
"""

import random
from collections.abc import Iterator

import pytest

from stablediffusiond.broker.topology import REQUEST_DELIVERY_LIMIT
from tests.faults import faults
from tests.faults.bench import Bench
from tests.faults.books import Account, Books
from tests.faults.dying import KILLS, POISON

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


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with Bench(stand_in=True) as made:
        yield made


@pytest.fixture(scope="module")
def undisturbed(bench: Bench) -> dict[str, Account]:
    return bench.undisturbed()


@pytest.fixture(autouse=True)
def _new_books(bench: Bench, undisturbed: dict[str, Account]) -> None:
    """What one fault has spoilt is not counted against the next."""
    bench.books = Books()


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
    daemon = bench.restart_requestd("poison")
    bench.books.open("poisoned", "poison")
    bench.publish({"id": "poisoned", "prompt": POISON, "width": 64, "height": 64, "steps": 2})
    bench.books.confirm("poisoned")
    submit_some(bench, INNOCENT)
    for _ in range(REQUEST_DELIVERY_LIMIT):
        assert daemon.process.wait(120) == -9
        daemon = bench.restart_requestd("poison")
    assert daemon.process.wait(120) == -9
    bench.settle()
    [end] = bench.books.accounts.pop("poisoned").ends
    assert end.head["error"]["code"] == "crashed"  # type: ignore[index]  # a field of JSON
    assert not bench.books.wrong(undisturbed)
    bench.wait_depths({".dead": 1})


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
