"""Everything that is sent to the socket ends in an error or a closed connection; the daemon lives, and others are served on."""

import contextlib
import resource
import socket
import time
from collections.abc import Iterator

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stablediffusiond.broker.topology import Topology
from tests.responsed.conftest import Client, Connect, Replies
from tools.daemons import Daemon

MANY_CLIENTS = 2_000


@pytest.fixture(autouse=True)
def _others_go_on(daemon: Daemon, connect: Connect, replies: Replies, queue: str) -> Iterator[None]:
    """After each test: somebody who was there before still gets replies, and the log has no traceback."""
    neighbour = connect().listen(f"{queue}-neighbour")
    yield
    replies.done(f"{queue}-neighbour")
    assert neighbour.receive().head["type"] == "done"
    assert daemon.process.poll() is None
    assert "Traceback" not in daemon.log


def test_a_byte_now_and_then_is_no_listen(connect: Connect) -> None:
    client, began = connect(), time.monotonic()
    client.socket.settimeout(0.2)
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        while time.monotonic() - began < 10:
            client.socket.sendall(b"{")
            with contextlib.suppress(TimeoutError):
                if client.socket.recv(1, socket.MSG_PEEK):
                    break
    client.socket.settimeout(20)
    assert client.receive_error() == "handshake_timeout"
    assert client.ended()
    assert time.monotonic() - began < 5, "handshake_seconds is 1"


def test_binary_rubbish_without_an_end_of_line(connect: Connect) -> None:
    client = connect()
    client.socket.sendall(bytes(range(128, 256)) * 20)
    assert client.receive_error() == "line_too_long"
    assert client.ended()


@pytest.mark.parametrize("sent", [b'{"op":"listen","que', b"\x00", b'{"op":"ping"}\n{'])
def test_half_a_line_and_then_nothing(connect: Connect, sent: bytes) -> None:
    polite, rude = connect(), connect()
    for client in (polite, rude):
        client.socket.sendall(sent)
    polite.socket.shutdown(socket.SHUT_WR)
    assert polite.ended()
    rude.abort()


def test_queues_of_the_service_and_of_others_are_not_to_be_had(connect: Connect, names: Topology) -> None:
    """A queue's name is its key: who knows one of ``results.…`` may listen; no client may listen to the service's own."""
    client = connect()
    own = names.requests
    for queue in (
        own,
        f"{own}.high",
        f"{own}.dead",
        f"{own}.unroutable",
        "amq.gen-x",
        "",
        "resultsx",
        f"{names.results}.#",
        f"{names.results}./../{own}",
    ):
        client.send(op="listen", queue=queue)
        assert client.receive_error() == "bad_queue", queue


OPERATIONS = {
    b'{"op":"ping"}': "pong", b'{"op":"ack","delivery":1}': "error", b'{"op":"ack","delivery":-1}': "error",
    b'{"op":"ack","delivery":1e99}': "error", b'{"op":"auth","token":"x"}': None, b'{"op":"listen","queue":"results.x"}': "error",
    b'{"op":"listen"}': "error", b'{"op":"cancel","id":""}': "error",
}  # fmt: skip


def no_operation() -> st.SearchStrategy[bytes]:
    words = st.sampled_from([b"[]", b"null", b"", b'{"op":{}}', b'{"op":null}', b'{"op":"ping"} {}', b'{"op":"ping"'])
    return words | st.binary(max_size=60).map(lambda rubbish: b"~" + rubbish.replace(b"\n", b" "))


@settings(max_examples=40)
@given(lines=st.lists(st.sampled_from(sorted(OPERATIONS)), max_size=12), last=no_operation())
def test_any_sequence_of_lines_is_answered_line_by_line(daemon: Daemon, lines: list[bytes], last: bytes) -> None:
    """No line is a listen that can work; the first that is no operation is the last that is answered."""
    client = Client(daemon.port())
    try:
        client.socket.sendall(b"".join(line + b"\n" for line in [*lines, last, b'{"op":"ping"}']))
        expected = [answer for line in lines if (answer := OPERATIONS[line])]
        assert [client.receive().head["type"] for _ in expected] == expected
        assert client.receive_error() == "bad_op"
        assert client.ended()
    finally:
        client.abort()


def test_who_connects_and_leaves_at_once_is_no_client(daemon: Daemon) -> None:
    """As a check of the port does, every few seconds; to TCP it looks like one that has closed its writing side."""
    for _ in range(20):
        socket.create_connection(("127.0.0.1", daemon.port())).close()
    daemon.wait_status(r"^[01] clients$", timeout_seconds=10)


def test_a_crowd_that_connects_and_says_nothing_more(daemon: Daemon) -> None:
    process = psutil.Process(daemon.process.pid)
    before = process.memory_info().rss
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 3 * MANY_CLIENTS), hard))
    try:
        with contextlib.ExitStack() as left:
            for _ in range(MANY_CLIENTS):
                one = left.enter_context(socket.create_connection(("127.0.0.1", daemon.port()), timeout=20))
                one.sendall(b"{")
            daemon.wait_log("is turned away")
            assert process.memory_info().rss - before < 50_000_000
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    daemon.wait_status(r"^[01] clients$")
