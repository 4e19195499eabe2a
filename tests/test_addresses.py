"""Binding to what a machine has."""

import errno
import socket
from typing import Any

import pytest

from stablediffusiond.addresses import bind
from stablediffusiond.errors import AddressInUse, SettingsError

BOTH = [
    (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 0, 0, 0)),
    (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0)),
]


@pytest.fixture
def both(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host with both addresses."""
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: BOTH)


def names(sockets: list[socket.socket]) -> list[tuple[Any, ...]]:
    found = [each.getsockname()[:2] for each in sockets]
    for each in sockets:
        each.close()
    return found


@pytest.mark.usefixtures("both")
async def test_all_addresses_of_a_host_have_one_port() -> None:
    (first, port), (second, other) = names(await bind("responses", "localhost", 0, ""))
    assert (first, second) == ("::1", "127.0.0.1")
    assert port == other > 0


@pytest.mark.usefixtures("both")
@pytest.mark.parametrize("missing", ["family", "address"])
async def test_without_ipv6_what_there_is_is_taken(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    """The kernel has no such family, or sysctl has taken its addresses away."""

    class Socket(socket.socket):
        def __init__(self, family: int = -1, kind: int = -1, proto: int = -1, fileno: int | None = None) -> None:
            if family == socket.AF_INET6 and missing == "family":
                raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
            super().__init__(family, kind, proto, fileno)

        def bind(self, address: Any) -> None:
            if self.family == socket.AF_INET6:
                raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")
            super().bind(address)

    monkeypatch.setattr("stablediffusiond.addresses.socket.socket", Socket)
    [(address, port)] = names(await bind("responses", "localhost", 0, ""))
    assert address == "127.0.0.1"
    assert port > 0


async def test_no_such_host_and_no_such_address_are_errors_that_help() -> None:
    with pytest.raises(SettingsError, match=r"\[metrics\] host 'nowhere\.invalid'"):
        await bind("metrics", "nowhere.invalid", 0, "")
    with pytest.raises(AddressInUse, match=r"192\.0\.2\.1:9411: this machine does not have that address; try another"):
        await bind("metrics", "192.0.2.1", 9411, "try another")


async def test_a_port_that_is_taken_says_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(AddressInUse, match=rf"127\.0\.0\.1:{port}: Address already in use; another"):
            await bind("responses", "127.0.0.1", port, "another")
