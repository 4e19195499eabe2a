"""What the tests of faults share; each file has a ``bench`` of its own."""

import pytest

from tests.faults.bench import Bench
from tests.faults.books import Account, Books


@pytest.fixture(scope="module")
def undisturbed(bench: Bench) -> dict[str, Account]:
    return bench.undisturbed()


@pytest.fixture
def new_books(bench: Bench, undisturbed: dict[str, Account]) -> None:
    """What one fault has spoilt is not counted against the next."""
    bench.books = Books()
