"""One machine for all tests of this folder; they run in the order of their files, and the last takes everything off it."""

import contextlib
import socket
from collections.abc import Iterator

import pytest

from tests.end_to_end.test_readme import blocks
from tests.project.test_demo import clone
from tests.system.byte_code import copy_byte_code
from tests.system.installation import CHECKOUT, GPUS, PREFIX, Installation
from tests.system.machine import HOME, Machine
from tests.system.network import network

#: Of a RabbitMQ and its epmd, and of the response daemon.
_PORTS = (4369, 5672, 50007)


@contextlib.contextmanager
def ports_taken() -> Iterator[None]:
    """All ports of the services are taken here, as on a machine with a RabbitMQ or an installation."""
    with contextlib.ExitStack() as listening:
        for port in _PORTS:
            with contextlib.suppress(OSError):
                listening.enter_context(socket.create_server(("0.0.0.0", port)))
        yield


@pytest.fixture(scope="package")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine with a checkout on it, and nothing installed: without IPv6, and with the GPUs of others."""
    with ports_taken(), network() as its_own, Machine(its_own) as made:
        its_own.set_ipv6(on=False)
        for node in GPUS:
            # The tunnel's device, which anybody may open where a unit does not deny it.
            made.root(f"mkdir -p $(dirname {node}); mknod -m 666 {node} c 10 200")
        made.copy(clone(tmp_path_factory.mktemp("clone") / "stablediffusiond"), CHECKOUT)
        compiled = tmp_path_factory.mktemp("byte-code")
        copy_byte_code(compiled)
        made.copy(compiled, "byte-code")
        made.root(f"mv {HOME}/byte-code {PREFIX}; chown -R root: {PREFIX}; chmod -R a+rX {PREFIX}")
        yield made


@pytest.fixture(scope="package")
def installed(machine: Machine) -> Installation:
    [(_, commands)] = blocks("systemd")
    return Installation(machine, machine.run(f"cd '{CHECKOUT}'; {commands}", timeout_seconds=800))
