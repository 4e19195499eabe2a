"""How often a crashed job is passed on before it is answered, with the counts of different brokers; no broker here."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from stablediffusiond.broker.channel import Channel
from stablediffusiond.broker.message import Delivery, Message
from stablediffusiond.broker.topology import Topology
from stablediffusiond.requestd import dead_letters
from stablediffusiond.requestd.dead_letters import DeadLetterConsumer
from stablediffusiond.requestd.in_flight import InFlightJobs
from stablediffusiond.requestd.reply_publisher import ReplyPublisher


class FakeChannel:
    """Records how its delivery is settled."""

    def __init__(self) -> None:
        self.settled: asyncio.Queue[str] = asyncio.Queue()
        self.deliver: Callable[[Delivery], None] = lambda _: None

    async def consume(self, _: str, on_delivery: Callable[[Delivery], None], *, prefetch: int) -> None:
        assert prefetch == 1
        self.deliver = on_delivery

    def ack(self, _: int) -> None:
        self.settled.put_nowait("answered")

    def requeue(self, _: int) -> None:
        self.settled.put_nowait("passed on")


class FakeReplyPublisher:
    """Records the types of what is published."""

    def __init__(self) -> None:
        self.published: list[Any] = []

    async def reply(self, _: object, message: Message) -> None:
        self.published.append(message.type)

    async def dead_letter(self, *_: object) -> None:
        self.published.append("kept")


@pytest.mark.parametrize(
    "counts",
    [pytest.param((0, 1, 2, 3), id="RabbitMQ 3"), pytest.param((4, 1, 2, 3), id="RabbitMQ 4.0, with what it died of")],
)
async def test_it_is_passed_on_three_times_and_then_answered(
    monkeypatch: pytest.MonkeyPatch, counts: tuple[int, ...]
) -> None:
    monkeypatch.setattr(dead_letters, "_ROUND_SECONDS", 0)
    channel, replies, topology = FakeChannel(), FakeReplyPublisher(), Topology()
    daemon = DeadLetterConsumer(topology, cast("ReplyPublisher", replies), InFlightJobs())
    await daemon.consume(cast("Channel", channel))
    outcomes = []
    for count in counts:
        message = Message(b'{"prompt": "cat"}', message_id="m", headers={"x-delivery-count": count})
        channel.deliver(Delivery(message, topology.crashed, 1, redelivered=count > 0, channel=channel))
        outcomes.append(await channel.settled.get())
    assert outcomes == ["passed on", "passed on", "passed on", "answered"]
    assert replies.published == ["failed", "kept"]
