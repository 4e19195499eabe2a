"""What the other end of a connection on this machine has not read, as the kernel says it."""

import contextlib
import socket
from collections.abc import Iterator

import pytest

from stablediffusiond.responsed.local_peers import LocalPeers


@pytest.fixture
def peers() -> Iterator[LocalPeers]:
    with contextlib.closing(LocalPeers()) as made:
        yield made


def connection(family: int, listen: str, connect: str) -> tuple[socket.socket, socket.socket]:
    with socket.socket(family, socket.SOCK_STREAM) as listening:
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listening.bind((listen, 0))
        listening.listen()
        client = socket.create_connection((connect, listening.getsockname()[1]))
        return client, listening.accept()[0]


@pytest.mark.parametrize(
    ("family", "listen", "connect"),
    [(socket.AF_INET, "127.0.0.1", "127.0.0.1"), (socket.AF_INET6, "::1", "::1"), (socket.AF_INET6, "::", "127.0.0.1")],
    ids=["IPv4", "IPv6", "IPv4 on an IPv6 socket"],
)
def test_what_was_sent_is_unread_until_it_is_read(peers: LocalPeers, family: int, listen: str, connect: str) -> None:
    client, ours = connection(family, listen, connect)
    with client, ours:
        assert peers.unread_bytes(ours) == 0
        ours.sendall(b"x" * 1000)
        assert peers.unread_bytes(ours) == 1000
        client.recv(400)
        assert peers.unread_bytes(ours) == 600
        client.recv(1000)
        assert peers.unread_bytes(ours) == 0


def test_who_has_closed_is_known_from_who_has_closed_one_side(peers: LocalPeers) -> None:
    client, ours = connection(socket.AF_INET, "127.0.0.1", "127.0.0.1")
    with client, ours:
        assert not peers.has_closed(ours)
        client.shutdown(socket.SHUT_WR)
        assert not peers.has_closed(ours)
        client.close()
        assert peers.has_closed(ours)


def test_of_who_has_gone_nothing_is_unread(peers: LocalPeers) -> None:
    client, ours = connection(socket.AF_INET, "127.0.0.1", "127.0.0.1")
    with ours:
        client.close()
        assert peers.unread_bytes(ours) == 0


def test_where_the_kernel_may_not_be_asked_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "AF_NETLINK")
    with contextlib.closing(LocalPeers()) as peers:
        client, ours = connection(socket.AF_INET, "127.0.0.1", "127.0.0.1")
        with client, ours:
            ours.sendall(b"x")
            assert peers.unread_bytes(ours) == 0
