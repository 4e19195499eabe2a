"""What the tests of the request daemon share."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.requestd.several_daemons import Start


@pytest.fixture
def start() -> Iterator[Start]:
    with ExitStack() as running:
        yield Start(running)
