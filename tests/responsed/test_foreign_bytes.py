"""Bytes of other protocols on the socket: the connection is closed, nothing is executed, and no reply is lost.

The recordings are what browsers and other programs sent; each is followed by what a web page would have them send.
"""

import asyncio
import contextlib
import json
import socket
from collections.abc import Iterator

import pytest

from stablediffusiond.broker.channel import Channel
from stablediffusiond.broker.message import Delivery
from stablediffusiond.broker.topology import Topology
from tests.responsed.conftest import Client, Connect, Replies
from tests.responsed.test_other_protocols import RECORDED, UNKNOWN
from tools.daemons import Daemon

BROWSERS = ["chromium_fetch_post", "chromium_tls", "chromium_websocket", "firefox_fetch_post", "firefox_tls", "amqp"]


@pytest.fixture
def attack(results: str) -> bytes:
    ops = [{"op": "cancel", "id": "job"}, {"op": "listen", "queue": results}, {"op": "cancel", "id": "job"}]
    return b"".join(b"\n" + json.dumps(op).encode() + b"\n" for op in ops)


@pytest.fixture(autouse=True)
def _no_job_is_cancelled(replies: Replies, names: Topology, connect: Connect) -> Iterator[None]:
    received: list[Delivery] = []
    channel: Channel = replies.run(replies._connection.channel())
    private = replies.run(channel.bind_private_queue(names.control, [""], 10))
    yield
    connect().send(op="cancel", id="the last")
    replies.run(channel.consume(private, received.append, prefetch=10))

    async def wait_for_the_last() -> None:
        async with asyncio.timeout(20):
            while not received:
                await asyncio.sleep(0.01)

    replies.run(wait_for_the_last())
    replies.run(channel.close())
    assert [json.loads(delivery.message.body)["cancel"] for delivery in received] == ["the last"]


@pytest.fixture(autouse=True)
def _the_reply_is_the_next_ones(replies: Replies, results: str, connect: Connect) -> Iterator[None]:
    """After each test, its reply is there for somebody who reads."""
    replies.image(results)
    yield
    reader = connect().listen(results)
    assert reader.receive().data == b"\x89PNG bytes"
    reader.send(op="ping")
    assert reader.receive().head["type"] == "pong", "and was there once"


def send(client: Client, pieces: list[bytes]) -> None:
    client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        for piece in pieces:
            client.socket.sendall(piece)


def all_received(client: Client) -> bytes:
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while more := client.socket.recv(65_536):
            received += more
    return received


def wait_for_first_byte(client: Client) -> None:
    """Wait for it without reading it."""
    assert client.socket.recv(10, socket.MSG_PEEK) == b"{", "the rest comes to who reads"


@pytest.mark.parametrize("in_one_segment", [True, False], ids=["in one segment", "byte by byte"])
@pytest.mark.parametrize("name", sorted(RECORDED))
def test_nothing_after_them_is_executed(name: str, *, in_one_segment: bool, connect: Connect, attack: bytes) -> None:
    client = connect()
    sent = RECORDED[name] + attack
    send(client, [sent] if in_one_segment else [bytes([byte]) for byte in sent])
    received = all_received(client)
    if name in UNKNOWN:
        assert json.loads(received)["code"] == "bad_op"
    else:
        assert received == b""


@pytest.mark.parametrize("name", BROWSERS)
def test_a_byte_order_mark_before_them_changes_nothing(name: str, connect: Connect, attack: bytes) -> None:
    client = connect()
    send(client, [b"\xef\xbb\xbf" + RECORDED[name] + attack])
    assert all_received(client) == b""


@pytest.mark.parametrize("name", BROWSERS)
def test_nor_after_listen(name: str, connect: Connect, queue: str, attack: bytes) -> None:
    client = connect().listen(queue)
    send(client, [RECORDED[name] + attack])
    assert all_received(client) == b""


# Connections that a browser opens before it needs them


def test_one_that_is_never_used_takes_no_reply_along(connect: Connect) -> None:
    idle = connect()
    wait_for_first_byte(idle)
    idle.close()


def test_one_that_stays_is_cut_off(connect: Connect, daemon: Daemon) -> None:
    idle = connect()
    wait_for_first_byte(idle)
    daemon.wait_log("is cut off, and its replies go back: nothing was taken off the socket for 1 s")
    assert all_received(idle) == b"{"


@pytest.mark.parametrize("name", BROWSERS)
def test_one_that_is_used_later_takes_none_either(name: str, connect: Connect, attack: bytes) -> None:
    """Chromium sends its request, and then reads."""
    idle = connect()
    wait_for_first_byte(idle)
    send(idle, [RECORDED[name] + attack])
    assert all_received(idle) in {b"", b"{"}


def test_nor_does_one_that_is_emptied_and_closed(connect: Connect) -> None:
    """Firefox reads what it did not expect, and closes."""
    idle = connect()
    assert idle.socket.recv(65_536) == b"{"
    idle.close()


def test_the_log_says_what_was_spoken(connect: Connect, daemon: Daemon) -> None:
    client = connect()
    send(client, [RECORDED["chromium_fetch_post"]])
    daemon.wait_log("WARNING .*is closed, and nothing that it sent is executed: these bytes are HTTP")
