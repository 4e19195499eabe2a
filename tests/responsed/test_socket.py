"""Every clause of docs/protocol.md, "The socket", from outside."""

import asyncio
import json
import shutil
import socket
import subprocess
from pathlib import Path

from stablediffusiond.broker.message import Delivery, Message
from stablediffusiond.broker.topology import Topology
from tests.responsed.conftest import Connect, Replies
from tools.daemons import Daemon


def test_a_client_that_says_nothing_gets_the_results_queue(connect: Connect, replies: Replies, results: str) -> None:
    client = connect()
    replies.image(results)
    replies.done(results)
    frame = client.receive()
    assert frame.data == b"\x89PNG bytes"
    assert {name: frame.head[name] for name in ("type", "id", "delivery", "correlation_id", "job_type", "content_type")} == {
        "type": "image", "id": "job", "delivery": 1, "correlation_id": "corr", "job_type": "txt2img",
        "content_type": "image/png",
    }  # fmt: skip
    assert frame.head["guidance_scale"] == 7.5
    assert client.receive().head["type"] == "done"
    client.send(op="ping")
    assert client.receive().head["type"] == "pong", "and so it is acked"


def test_listening_says_so_when_the_queue_is_there(connect: Connect, replies: Replies, queue: str) -> None:
    client = connect().listen(queue)
    replies.done(queue)
    assert client.receive().head["id"] == "job"


def test_binary_pictures_follow_their_line(connect: Connect, replies: Replies, queue: str) -> None:
    client = connect()
    client.send(op="listen", queue=queue, encoding="binary")
    client.receive()
    replies.image(queue, png=b"\n\x00" * 500)
    line = json.loads(client.reader.readline())
    assert line["length"] == 1000
    assert client.reader.read(1000) == b"\n\x00" * 500


def test_what_is_not_acked_goes_to_the_next_reader(connect: Connect, replies: Replies, queue: str) -> None:
    first = connect().listen(queue, ack="manual")
    for index in range(2):
        replies.image(queue, index)
    assert [first.receive().head["index"] for _ in range(2)] == [0, 1]
    first.send(op="ack", delivery=1)
    first.send(op="ping")
    assert first.receive().head["type"] == "pong"
    first.close()
    frame = connect().listen(queue).receive()
    assert (frame.head["index"], frame.head["redelivered"]) == (1, True)


def test_prefetch_bounds_what_is_on_the_way(connect: Connect, replies: Replies, queue: str) -> None:
    client = connect().listen(queue, ack="manual", prefetch=2)
    for index in range(5):
        replies.image(queue, index)
    assert [client.receive().head["index"] for _ in range(2)] == [0, 1]
    assert replies.waiting(queue) == 3
    client.send(op="ack", delivery=1)
    assert client.receive().head["index"] == 2


def test_progress_comes_only_to_who_asked(connect: Connect, replies: Replies, queue: str) -> None:
    asked, silent = connect().listen(queue, progress=True), connect().listen(queue + "-other")
    replies.progress(queue, 3)
    assert asked.receive().head == {"id": "job", "step": 3, "steps": 9, "type": "progress"}
    replies.progress(queue + "-other", 3)
    replies.done(queue + "-other")
    assert silent.receive().head["type"] == "done"


def test_a_cancel_reaches_the_daemons(connect: Connect, replies: Replies, names: Topology) -> None:
    received: list[Message] = []

    async def wait_for_cancel() -> None:
        channel = await replies._connection.channel()
        private = await channel.bind_private_queue(names.control, [""], 10)
        came = asyncio.Event()

        def on_delivery(delivery: Delivery) -> None:
            received.append(delivery.message)
            came.set()

        await channel.consume(private, on_delivery, prefetch=1)
        connect().send(op="cancel", id="job-7")
        async with asyncio.timeout(20):
            await came.wait()
        await channel.close()

    replies.run(wait_for_cancel())
    assert json.loads(received[0].body) == {"cancel": "job-7"}


def test_what_a_plain_listener_has_read_is_not_sent_again(connect: Connect, replies: Replies, results: str) -> None:
    first = connect()
    for index in range(2):
        replies.image(results, index)
    assert [first.receive().head["index"] for _ in range(2)] == [0, 1]
    first.send(op="ping")
    assert first.receive().head["type"] == "pong"
    first.close()
    replies.done(results)
    assert connect().receive().head["type"] == "done"


def test_a_foreign_message_is_passed_on(connect: Connect, replies: Replies, queue: str) -> None:
    client = connect().listen(queue)
    replies.put(queue, Message(b"just text", "text/plain", message_id="m"))
    frame = client.receive()
    assert (frame.head["type"], frame.head["content_type"], frame.data) == ("message", "text/plain", b"just text")


def test_who_closes_only_its_own_side_still_gets_pictures(connect: Connect, replies: Replies, queue: str) -> None:
    client = connect().listen(queue)
    client.socket.shutdown(socket.SHUT_WR)
    replies.image(queue)
    assert client.receive().data == b"\x89PNG bytes"


def test_a_reply_to_a_client_that_has_left_goes_to_the_next(connect: Connect, replies: Replies, queue: str) -> None:
    for _ in range(3):
        connect().listen(queue).close()  # three readers that look as if they were still there
    replies.image(queue)
    frame = connect().listen(queue).receive()
    assert frame.data == b"\x89PNG bytes"


def test_readers_of_one_queue_share_it(connect: Connect, replies: Replies, queue: str) -> None:
    readers = [connect().listen(queue, ack="manual", prefetch=1) for _ in range(2)]
    for index in range(2):
        replies.image(queue, index)
    assert {reader.receive().head["index"] for reader in readers} == {0, 1}


def test_twenty_clients_get_exactly_their_own(connect: Connect, replies: Replies, queue: str) -> None:
    clients = [connect().listen(f"{queue}.{number}") for number in range(20)]
    for turn in range(3):
        for number in range(20):
            replies.image(f"{queue}.{number}", turn, job=f"job-{number}")
    for number, client in enumerate(clients):
        assert [(frame.head["id"], frame.head["index"]) for frame in (client.receive() for _ in range(3))] == [
            (f"job-{number}", turn) for turn in range(3)
        ]


def test_nc_and_jq_are_a_client(replies: Replies, names: Topology, daemon: Daemon, tmp_path: Path) -> None:
    assert shutil.which("nc")
    replies.image(names.results, png=b"\x89PNG" * 1000)
    replies.done(names.results)
    command = f"timeout 20 nc localhost {daemon.port()} | grep -m1 image/png | jq -r .data | base64 -d > cat.png"
    subprocess.run(["bash", "-c", command], cwd=tmp_path, check=True, timeout=30)
    # What nc has not read before it ended goes to the next reader, so no test of this file comes after this one.
    assert (tmp_path / "cat.png").read_bytes() == b"\x89PNG" * 1000
