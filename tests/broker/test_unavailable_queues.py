"""A queue that takes nothing holds up nobody but itself; what it is for is not lost."""

import asyncio
from collections.abc import AsyncIterator
from typing import get_args

import pytest

from stablediffusiond.broker import channel as channel_module
from stablediffusiond.broker import unavailable_queues
from stablediffusiond.broker.link import Link
from stablediffusiond.broker.message import Message
from stablediffusiond.broker.publisher import Publisher
from stablediffusiond.broker.topology import Topology, declare
from stablediffusiond.errors import QueueUnavailable
from stablediffusiond.settings import BrokerSettings
from tests.queue_leader import Loss, QueueLeader
from tools.private_broker import PrivateBroker

#: More than are published at a time.
MANY = 10


@pytest.fixture
async def link(settings: BrokerSettings, topology: Topology, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Link]:
    monkeypatch.setattr(channel_module, "_CONFIRM_SECONDS", 0.5)
    monkeypatch.setattr(unavailable_queues, "_PROBE_SECONDS", 0.5)
    async with Link(settings, "test") as made:
        await declare(await made.connection(), topology)
        yield made


def message(number: int) -> Message:
    return Message(b"x", message_id=f"m{number}")


@pytest.mark.parametrize("loss", get_args(Loss))
async def test_it_holds_up_nobody_else_and_gets_everything_when_it_is_back(
    link: Link, broker: PrivateBroker, topology: Topology, loss: Loss
) -> None:
    leader = QueueLeader(broker, topology.results, loss)
    publisher = Publisher(link)
    await asyncio.to_thread(leader.lose)
    try:
        waiting = [asyncio.create_task(publisher.publish(message(n), topology.results)) for n in range(MANY)]
        async with asyncio.timeout(20):
            for number in range(MANY):
                await publisher.publish(message(number), topology.dead)
        assert not any(task.done() for task in waiting)
    finally:
        await asyncio.to_thread(leader.bring_back)
    async with asyncio.timeout(60):
        await asyncio.gather(*waiting)
    channel = await (await link.connection()).channel()
    came = set()
    while (delivery := await channel.get(topology.results)) is not None:
        came.add(delivery.message.message_id)
    assert came == {f"m{number}" for number in range(MANY)}


@pytest.mark.parametrize("loss", get_args(Loss))
async def test_it_is_given_up_after_a_while_and_found_again(
    link: Link, broker: PrivateBroker, topology: Topology, loss: Loss
) -> None:
    leader = QueueLeader(broker, topology.results, loss)
    refusals: list[str | None] = []
    publisher = Publisher(link, on_refusal=refusals.append)
    await asyncio.to_thread(leader.lose)
    try:
        async with asyncio.timeout(30):
            sent = [publisher.publish(message(n), topology.results, patience_seconds=1) for n in range(MANY)]
            ended = await asyncio.gather(*sent, return_exceptions=True)
        assert {type(error) for error in ended} == {QueueUnavailable}
        assert not refusals or refusals[-1] is None, "the engine would not go on"
    finally:
        await asyncio.to_thread(leader.bring_back)
    async with asyncio.timeout(30):
        while True:
            try:
                await publisher.publish(message(0), topology.results, patience_seconds=1)
            except QueueUnavailable:
                await asyncio.sleep(0.1)
            else:
                break


async def test_a_full_queue_is_not_given_up(link: Link, topology: Topology, broker: PrivateBroker) -> None:
    policy = f"full-{topology.results}"
    limit = ('{"max-length": 1, "overflow": "reject-publish"}', "--apply-to", "queues")
    await asyncio.to_thread(broker.ctl, "set_policy", policy, f"^{topology.results}$", *limit)
    try:
        publisher = Publisher(link)
        sending = asyncio.create_task(_publish(publisher, topology.results, MANY))
        _, pending = await asyncio.wait({sending}, timeout=6)
        assert pending, sending.result()
    finally:
        await asyncio.to_thread(broker.ctl, "clear_policy", policy)
    async with asyncio.timeout(30):
        await sending


async def _publish(publisher: Publisher, queue: str, count: int) -> None:
    for number in range(count):
        await publisher.publish(message(number), queue, patience_seconds=1)
