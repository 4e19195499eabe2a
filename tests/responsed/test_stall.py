"""Readers that are slow, and readers that have stopped."""

import time

import psutil

from tests.responsed.conftest import Connect, Replies
from tools.daemons import Daemon

BIG = b"\x89" * 4_000_000


def test_a_reader_that_takes_nothing_is_cut_off_and_its_replies_go_to_the_next(
    connect: Connect, replies: Replies, queue: str, daemon: Daemon
) -> None:
    stopped = connect(receive_bytes=4096).listen(queue)
    replies.image(queue, png=BIG)
    daemon.wait_log("is cut off, and its replies go back: nothing was taken off the socket for 1 s")
    assert connect().listen(queue).receive().data == BIG
    assert stopped.socket.fileno() >= 0


def test_a_slow_reader_is_not_cut_off(connect: Connect, replies: Replies, queue: str) -> None:
    slow = connect(receive_bytes=4096).listen(queue, encoding="binary")
    replies.image(queue, png=BIG[:600_000])
    began, taken = time.monotonic(), 0
    while taken < 600_000:
        taken += len(slow.socket.recv(30_000))
        time.sleep(0.1)  # what makes it slow
    assert time.monotonic() - began > 2, "longer than stall_seconds"
    replies.done(queue)


def test_who_never_acks_is_cut_off(connect: Connect, replies: Replies, queue: str, daemon: Daemon) -> None:
    silent = connect().listen(queue, ack="manual")
    replies.image(queue)
    silent.receive()
    daemon.wait_log("1 deliveries and no ack for 1 s")
    assert silent.ended()
    assert connect().listen(queue).receive().head["redelivered"]


def test_who_has_nothing_to_ack_is_left_in_peace(connect: Connect, replies: Replies, queue: str) -> None:
    client = connect().listen(queue, ack="manual")
    replies.image(queue)
    client.receive()
    client.send(op="ack", delivery=1)
    time.sleep(1.5)  # longer than stall_seconds
    replies.done(queue)
    assert client.receive().head["type"] == "done"


def test_a_reader_that_stops_holds_up_nobody_and_costs_its_prefetch(
    connect: Connect, replies: Replies, queue: str, daemon: Daemon
) -> None:
    process = psutil.Process(daemon.process.pid)
    before = process.memory_info().rss
    connect(receive_bytes=4096).listen(queue, prefetch=2)
    other = connect().listen(f"{queue}.other")
    for index in range(20):
        replies.image(queue, index, png=BIG)
        replies.image(f"{queue}.other", index)
        assert other.receive().head["index"] == index
    # Two pictures of the prefetch, one of them in base64, and what the allocator keeps.
    assert process.memory_info().rss - before < 8 * len(BIG)


def test_what_a_client_has_and_did_not_ack_costs_no_memory(
    connect: Connect, replies: Replies, queue: str, daemon: Daemon
) -> None:
    process = psutil.Process(daemon.process.pid)
    client = connect().listen(queue, encoding="binary", ack="manual", prefetch=16)
    before = process.memory_info().rss
    for index in range(8):
        replies.image(queue, index, png=BIG)
        assert client.receive().data == BIG
    client.send(op="ping")
    assert client.receive().head["type"] == "pong"
    assert process.memory_info().rss - before < 4 * len(BIG)
