"""The codes of docs/protocol.md, "The socket": which lines of a client are errors, and which of these end its connection."""

import socket

import pytest

from tests.responsed.conftest import Connect, Replies
from tools.daemons import Daemon


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b'{"op":"ack","delivery":1}\n', "unknown_delivery"),
        (b'{"op":"ack","delivery":"x"}\n', "bad_op"),
        (b'{"op":"ping","more":1}\n', "bad_op"),
        (b'{"op":"listen"}\n', "bad_op"),
        (b'{"op":"listen","queue":"stablediffusiond"}\n', "bad_queue"),
        (b'{"op":"listen","queue":"results.x","prefetch":1000}\n', "bad_queue"),
    ],
)
def test_after_a_wrong_operation_the_connection_goes_on(connect: Connect, queue: str, line: bytes, code: str) -> None:
    client = connect()
    client.socket.sendall(line)
    assert client.receive_error() == code
    client.send(op="ping")
    assert client.receive().head["type"] == "pong"
    client.listen(queue)


NO_OPERATIONS = [
    b"hello\n",
    b"\n",
    b"\xff\xfe\n",
    b'{"op":"dance"}\n',
    b'{"queue":"results"}\n',
    b"[]\n",
    b'"ping"\n',
    b"{}\n",
]


@pytest.mark.parametrize("line", NO_OPERATIONS)
def test_a_line_that_is_no_operation_ends_the_connection_before_listen(connect: Connect, line: bytes) -> None:
    client = connect()
    client.send(op="ping")
    client.socket.sendall(line + b'{"op":"ping"}\n')
    assert client.receive().head["type"] == "pong"
    assert client.receive_error() == "bad_op"
    assert client.ended()


@pytest.mark.parametrize("line", NO_OPERATIONS)
def test_once_a_client_listens_it_is_only_an_error(connect: Connect, queue: str, line: bytes) -> None:
    client = connect().listen(queue)
    client.socket.sendall(line)
    assert client.receive_error() == "bad_op"
    client.send(op="ping")
    assert client.receive().head["type"] == "pong"


def test_a_plain_listener_listens(connect: Connect, replies: Replies, results: str) -> None:
    client = connect()
    replies.done(results)
    client.receive()
    client.socket.sendall(b"hello\n")
    assert client.receive_error() == "bad_op"
    client.send(op="ping")
    assert client.receive().head["type"] == "pong"


@pytest.mark.parametrize("pieces", [[b"\xef\xbb\xbf"], [b"\xef", b"\xbb", b"\xbf"]], ids=["at once", "byte by byte"])
def test_a_byte_order_mark_before_the_first_line_is_skipped(connect: Connect, queue: str, pieces: list[bytes]) -> None:
    client = connect()
    client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for piece in pieces:
        client.socket.sendall(piece)
    client.listen(queue)


def test_a_second_one_is_no_operation(connect: Connect) -> None:
    client = connect()
    client.socket.sendall(b'\xef\xbb\xbf{"op":"ping"}\n\xef\xbb\xbf{"op":"ping"}\n')
    assert client.receive().head["type"] == "pong"
    assert client.receive_error() == "bad_op"
    assert client.ended()


def test_a_wrong_line_is_not_repeated_at_length(connect: Connect) -> None:
    client = connect()
    client.send(op="x" * 900)
    frame = client.receive()
    assert frame.head["code"] == "bad_op"
    assert len(str(frame.head["message"])) < 500


def test_too_large_a_prefetch_is_refused(connect: Connect, queue: str) -> None:
    client = connect()
    client.send(op="listen", queue=queue, prefetch=65)
    assert client.receive_error() == "bad_op"


def test_one_connection_listens_once(connect: Connect, queue: str) -> None:
    client = connect().listen(queue)
    client.send(op="listen", queue=queue)
    assert client.receive_error() == "already_listening"


def test_acks_of_deliveries_that_never_were_are_errors(connect: Connect, replies: Replies, queue: str) -> None:
    client = connect().listen(queue, ack="manual")
    client.send(op="ack", delivery=5)
    assert client.receive_error() == "unknown_delivery"
    replies.done(queue)
    client.receive()
    for _ in range(2):
        client.send(op="ack", delivery=1)
    client.send(op="ping")
    assert client.receive().head["type"] == "pong"


def test_a_line_without_end_breaks_the_framing(connect: Connect) -> None:
    client = connect()
    client.socket.sendall(b"x" * 5000)
    assert client.receive_error() == "line_too_long"
    assert client.ended()


def test_who_begins_to_speak_has_to_say_listen_in_time(connect: Connect) -> None:
    client = connect()
    client.send(op="ping")
    assert client.receive().head["type"] == "pong"
    assert client.receive_error() == "handshake_timeout"
    assert client.ended()


def test_half_a_line_is_no_silence(connect: Connect, queue: str) -> None:
    client = connect()
    client.socket.sendall(b'{"op":"lis')
    with pytest.raises(TimeoutError):
        client.socket.settimeout(0.5)
        client.socket.recv(1)
    client.socket.settimeout(20)
    client.socket.sendall(b'ten","queue":"' + queue.encode() + b'"}\n')
    assert client.receive().head["type"] == "listening"


def test_one_client_too_many_is_told_so(connect: Connect, queue: str, daemon: Daemon) -> None:
    clients = [connect().listen(f"{queue}.{number}") for number in range(25)]
    extra = [connect() for _ in range(10)]
    assert extra[-1].receive_error() == "too_many_connections"
    assert extra[-1].ended()
    clients[0].send(op="ping")
    assert clients[0].receive().head["type"] == "pong"
