"""What all tests share: a broker of their own, names that nobody else uses, and no hurry on slow machines."""

import gc
import os
import signal
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from stablediffusiond.broker.topology import Topology
from stablediffusiond.settings import BrokerSettings
from tools.private_broker import PrivateBroker

pytest_plugins = ["tests.fast", "tests.parallel"]

hypothesis_settings.register_profile("shared machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
hypothesis_settings.load_profile("shared machine")


def pytest_configure() -> None:
    """What the programs that tests start inherit, and torch, which is not loaded yet."""
    # As some have it: what other users have to read is made readable explicitly.
    os.umask(0o077)
    # Threads that wait sleep: spinning they starve the other programs of a test.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    # A shell that runs us in the background has us ignore Ctrl-C, and our programs with us.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Many tests end when the queues are empty.
    PrivateBroker.counts_every_milliseconds = 250


def pytest_sessionstart() -> None:
    gc.disable()


def pytest_collection_finish() -> None:
    """What was imported stays: a fifth of the time would go into looking for garbage in it, again and again."""
    gc.freeze()
    gc.enable()


@pytest.fixture
def tmp_path(tmp_path: Path) -> Path:
    """With a space in its name, as TMPDIR may have one."""
    spaced = tmp_path / "a b"
    spaced.mkdir()
    return spaced


@pytest.fixture(scope="session")
def broker() -> Iterator[PrivateBroker]:
    """One node for the whole session; tests keep apart by names of their own."""
    with PrivateBroker() as node:
        yield node


@pytest.fixture(scope="session")
def _second_node() -> Iterator[PrivateBroker]:
    node = PrivateBroker()
    try:
        yield node
    finally:
        node.stop()


@pytest.fixture
def own_broker(_second_node: PrivateBroker) -> PrivateBroker:
    """A node that the test may kill, as others have; whoever comes next starts it again.

    It ends with the thread that has started it: let that be the one of the tests.
    """
    return _second_node if _second_node.is_up else _second_node.start()


@pytest.fixture
def absent_broker(_second_node: PrivateBroker) -> PrivateBroker:
    """The same node, which the test starts."""
    _second_node.kill()
    return _second_node


@pytest.fixture
def settings(broker: PrivateBroker) -> BrokerSettings:
    return BrokerSettings.model_validate({"url": broker.url})


@pytest.fixture
def topology() -> Topology:
    """Queues that nobody else uses."""
    name = uuid.uuid4().hex[:8]
    return Topology(f"requests-{name}", f"results-{name}")


@pytest.fixture
def environment(broker: PrivateBroker, topology: Topology) -> dict[str, str]:
    """Settings for the programs: this session's broker, this test's queues."""
    return {
        "STABLEDIFFUSIOND_CONFIG": "",
        "STABLEDIFFUSIOND_BROKER__URL": broker.url,
        "STABLEDIFFUSIOND_QUEUES__REQUESTS": topology.requests,
        "STABLEDIFFUSIOND_QUEUES__RESULTS": topology.results,
    }


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port
