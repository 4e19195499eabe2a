"""How often a crashed job is passed on before it is answered, by what different brokers say of it; no broker here."""

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


class Hand:
    """A channel, and what becomes of the delivery that is on it."""

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


class Mouth:
    """An replies that remembers what it was given."""

    def __init__(self) -> None:
        self.said: list[Any] = []

    async def reply(self, _: object, message: Message) -> None:
        self.said.append(message.type)

    async def dead_letter(self, *_: object) -> None:
        self.said.append("kept")


@pytest.mark.parametrize(
    "counts",
    [pytest.param((0, 1, 2, 3), id="RabbitMQ 3"), pytest.param((4, 1, 2, 3), id="RabbitMQ 4.0, with what it died of")],
)
async def test_it_is_passed_on_three_times_and_then_answered(
    monkeypatch: pytest.MonkeyPatch, counts: tuple[int, ...]
) -> None:
    monkeypatch.setattr(dead_letters, "_ROUND_SECONDS", 0)
    hand, mouth, topology = Hand(), Mouth(), Topology()
    daemon = DeadLetterConsumer(topology, cast("ReplyPublisher", mouth), InFlightJobs())
    await daemon.consume(cast("Channel", hand))
    fate = []
    for count in counts:
        message = Message(b'{"prompt": "cat"}', message_id="m", headers={"x-delivery-count": count})
        hand.deliver(Delivery(message, topology.crashed, 1, redelivered=count > 0, channel=hand))
        fate.append(await hand.settled.get())
    assert fate == ["passed on", "passed on", "passed on", "answered"]
    assert mouth.said == ["failed", "kept"]
