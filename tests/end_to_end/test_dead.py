"""``stablediffusion_client dead``: what was put aside is seen, retried and dropped, and never lost."""

import asyncio
import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from stablediffusiond.broker.channel import Channel
from stablediffusiond.broker.connection import Connection
from stablediffusiond.broker.message import Delivery, Message
from stablediffusiond.broker.topology import Topology, declare
from stablediffusiond.client.dead_letters import opened
from stablediffusiond.settings import Settings
from tests.end_to_end.conftest import Operated
from tools.private_broker import PrivateBroker


class AmqpClient:
    """A channel for a test that puts messages in and looks at what comes out."""

    def __init__(self, broker: PrivateBroker) -> None:
        self._runner = asyncio.Runner()
        self._connection = self.run(
            Connection.open(Settings.model_validate({"broker": {"url": broker.url}}).broker, "test")
        )
        self.channel: Channel = self.run(self._connection.channel())
        self.run(self.channel.confirm_publishes())

    def run(self, work: Any) -> Any:
        return self._runner.run(work)

    def put(self, queue: str, message: Message) -> None:
        self.run(self.channel.publish(message, "", queue))

    def take(self, queue: str) -> Message:
        """The next message; waits for it."""

        async def first() -> Message:
            came: asyncio.Future[Delivery] = asyncio.get_running_loop().create_future()
            tag = await self.channel.consume(queue, came.set_result, prefetch=1)
            async with asyncio.timeout(20):
                delivery = await came
            await self.channel.cancel_consumers([tag])  # first, so that no second one comes
            delivery.ack()
            return delivery.message

        message: Message = self.run(first())
        return message

    def queue(self) -> str:
        name = f"mine-{uuid.uuid4().hex[:8]}"
        self.run(self.channel.declare_queue(name, {"x-queue-type": "quorum"}))
        return name

    def close(self) -> None:
        self.run(self._connection.close())
        self._runner.close()


@pytest.fixture
def amqp(broker: PrivateBroker) -> Iterator[AmqpClient]:
    made = AmqpClient(broker)
    yield made
    made.close()


def listed(operated: Operated, *options: str) -> list[dict[str, Any]]:
    code, out, err = operated.run_as_operator("dead", *options, "list", "--json")
    assert (code, err) == (0, "")
    return [json.loads(line) for line in out.splitlines()]


def test_a_dead_request_is_seen_retried_and_dropped(operated: Operated, amqp: AmqpClient) -> None:
    mine, low = amqp.queue(), operated.topology.request_queue("low")
    amqp.put(low, Message(b"this is no JSON", reply_to=mine, correlation_id="corr"))
    failed = amqp.take(mine)
    [dead] = listed(operated)
    job_id = dead["id"]
    assert failed.message_id == f"{job_id}/failed"
    assert (dead["was_for"], dead["reply_to"], dead["body_bytes"]) == (low, mine, 15)
    assert "not JSON" in dead["reason"]

    shown = json.loads(operated.run_as_operator("dead", "show", job_id)[1])
    assert (shown["body"], shown["correlation_id"], shown["kept_at"]) == ("this is no JSON", "corr", dead["kept_at"])
    assert operated.run_as_operator("dead", "show", job_id, "--body")[1] == "this is no JSON"

    assert operated.run_as_operator("dead", "retry", job_id) == (0, f"{job_id}\n", "")
    assert amqp.take(mine).message_id == f"{job_id}/failed"  # it died again, under the same id
    [again] = listed(operated)
    assert (again["id"], again["was_for"]) == (job_id, low)

    assert operated.run_as_operator("dead", "drop", job_id) == (0, f"{job_id}\n", "")
    assert listed(operated) == []
    for verb in ("show", "drop", "retry"):
        code, out, err = operated.run_as_operator("dead", verb, job_id)
        assert (code, out) == (1, "")
        assert f"there is no message '{job_id}'" in err


def test_a_crashed_request_is_drawn_when_it_is_retried(operated: Operated, amqp: AmqpClient) -> None:
    mine, high = amqp.queue(), operated.topology.request_queue("high")
    body = json.dumps({"prompt": "cat", "steps": 2, "deadline_seconds": 60}).encode()
    amqp.put(operated.topology.crashed, Message(body, message_id="crasher", reply_to=mine, headers={"x-first-death-queue": high}))  # fmt: skip
    assert json.loads(amqp.take(mine).body)["error"]["code"] == "crashed"
    assert [each["was_for"] for each in listed(operated)] == [high]
    assert operated.run_as_operator("dead", "retry", "--all") == (0, "crasher\n", "")
    assert [amqp.take(mine).message_id for _ in range(2)] == ["crasher/0", "crasher/done"]
    assert listed(operated) == []


def test_a_reply_that_nobody_took_goes_to_its_queue_when_that_is_there(operated: Operated, amqp: AmqpClient) -> None:
    gone = f"gone-{uuid.uuid4().hex[:8]}"
    body = json.dumps({"prompt": "cat", "steps": 2, "id": "lost"}).encode()
    amqp.put(operated.topology.requests, Message(body, reply_to=gone))
    operated.daemon.wait_log("job lost done")
    assert [(each["id"], each["was_for"]) for each in listed(operated, "--queue", "unroutable")] == [
        ("lost/0", gone),
        ("lost/done", gone),
    ]
    code, out, err = operated.run_as_operator("dead", "--queue", "unroutable", "retry", "--all")
    assert (code, out) == (1, "")
    assert f"these stay: lost/0: no queue takes '{gone}'; lost/done" in err
    amqp.run(amqp.channel.declare_queue(gone, {}))
    assert operated.run_as_operator("dead", "--queue", "unroutable", "retry", "lost/done", "lost/0")[0] == 0
    picture, done = amqp.take(gone), amqp.take(gone)
    assert (picture.body[1:4], picture.message_id, picture.headers["index"], done.type) == (b"PNG", "lost/0", 0, "done")
    assert listed(operated, "--queue", "unroutable") == []


def test_an_ordinary_client_is_told_who_may(operated: Operated) -> None:
    code, out, err = operated.run("dead", "list")
    assert (code, out) == (3, "")
    assert "this is for operators: with sudo" in err


@pytest.mark.parametrize("arguments", [("retry",), ("drop", "one", "--all")])
def test_nothing_is_done_to_all_without_being_told(operated: Operated, arguments: tuple[str, ...]) -> None:
    code, _, err = operated.run("dead", *arguments)
    assert (code, "name messages by their ids, or use --all" in err) == (2, True)


async def test_however_often_one_looks_nothing_is_lost(broker: PrivateBroker, topology: Topology) -> None:
    """RabbitMQ 4 drops what was given back more than twenty times."""
    settings = Settings.model_validate(
        {"broker": {"url": broker.url}, "queues": {"requests": topology.requests, "results": topology.results}}
    )
    connection = await Connection.open(settings.broker, "test")
    await declare(connection, topology)
    channel = await connection.channel()
    await channel.confirm_publishes()
    sent = [Message(b"x" * number, message_id=f"m{number}", headers={"x-dead-reason": "why"}) for number in range(3)]
    for message in sent:
        await channel.publish(message, "", topology.dead)
    for _ in range(30):
        async with asyncio.timeout(20):
            while await channel.check_queue(topology.dead) < len(sent):
                pass  # what a connection leaves behind goes back a moment after it has closed
        async with opened(settings) as shelf:
            seen = []
            async for kept in shelf.each(lambda _: True):
                seen.append(kept)
                await shelf.leave(kept)
        assert [each.facts.id for each in seen] == ["m0", "m1", "m2"]
        assert max(each.delivery.earlier_deliveries for each in seen) <= 10
        assert [(each.message.body, each.facts.reason) for each in seen] == [(each.body, "why") for each in sent]
    await connection.close()
