"""Messages that arrive while their consumer, or whoever asked for them, is going away: a rejection would be counted."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from stablediffusiond.broker.channel import Channel
from stablediffusiond.broker.connection import Connection
from stablediffusiond.broker.message import Delivery, Message
from stablediffusiond.broker.topology import Topology, declare
from stablediffusiond.settings import BrokerSettings
from tests.faults.proxy import Proxy
from tools.private_broker import PrivateBroker

DELAY_SECONDS = 0.3


@pytest.fixture
async def connection(settings: BrokerSettings, topology: Topology) -> AsyncIterator[Connection]:
    made = await Connection.open(settings, "test")
    await declare(made, topology)
    yield made
    await made.close()


async def test_a_delivery_that_a_cancel_overtakes_is_passed_on_and_not_rejected(
    broker: PrivateBroker, connection: Connection, topology: Topology
) -> None:
    with Proxy(broker.port) as proxy:
        far = await Connection.open(BrokerSettings.model_validate({"url": proxy.url}), "test")
        channel, delivered = await far.channel(), asyncio.Queue[Delivery]()
        tag = await channel.consume(topology.requests, delivered.put_nowait, prefetch=1)
        proxy.delay(DELAY_SECONDS)
        publishing = await connection.channel()
        await publishing.confirm_publishes()
        await publishing.publish(Message(b"{}"), "", topology.requests)
        await channel.cancel_consumers([tag])
        assert delivered.qsize() == 1
        proxy.heal()
        await channel.close()
        returned = await _next(publishing, topology.requests)
        assert returned.earlier_deliveries == 1, "by the channel's end, and not by a rejection before"
        await far.close()


async def test_after_a_cancel_nothing_is_delivered_any_more(connection: Connection, topology: Topology) -> None:
    channel, delivered = await connection.channel(), list[Delivery]()
    tag = await channel.consume(topology.requests, delivered.append, prefetch=5)
    await channel.cancel_consumers([tag])
    await channel.confirm_publishes()
    await channel.publish(Message(b"{}"), "", topology.requests)
    assert (await channel.depth(topology.requests)).consumers == 0
    assert await channel.get(topology.requests) is not None
    assert delivered == []


async def test_an_exhausted_consumer_that_is_cancelled_before_the_ack_gets_no_further_message(
    connection: Connection, topology: Topology
) -> None:
    channel, delivered = await connection.channel(), asyncio.Queue[Delivery]()
    await channel.confirm_publishes()
    for number in range(2):
        await channel.publish(Message(b"{}", message_id=str(number)), "", topology.requests)
    tag = await channel.consume(topology.requests, delivered.put_nowait, prefetch=1)
    first = await delivered.get()
    asked = asyncio.create_task(channel.depth(topology.requests))
    await asyncio.sleep(0)  # it waits for its answer, which an ordinary cancellation would do as well
    channel.cancel_exhausted(tag)
    first.ack()
    assert (await asked).messages == 1
    async with asyncio.timeout(20):
        while (await channel.depth(topology.requests)).consumers:
            pass  # the ack is on its way through the log of the queue
    second = await channel.get(topology.requests)
    assert second is not None
    assert (second.message.message_id, second.earlier_deliveries) == ("1", 0)
    assert delivered.empty()


async def test_cancelling_a_consumer_that_is_not_there_does_nothing(connection: Connection) -> None:
    channel = await connection.channel()
    async with asyncio.timeout(5):
        await channel.cancel_consumers(["nobody"])


async def test_a_message_that_nobody_waits_for_any_more_goes_back(connection: Connection, topology: Topology) -> None:
    channel = await connection.channel()
    await channel.confirm_publishes()
    await channel.publish(Message(b"{}", message_id="0"), "", topology.requests)
    getting = asyncio.create_task(channel.get(topology.requests))
    await asyncio.sleep(0)  # it has asked
    getting.cancel()
    await asyncio.wait({getting})
    returned = await _next(await connection.channel(), topology.requests)
    assert (returned.message.message_id, returned.earlier_deliveries) == ("0", 1)


async def _next(channel: Channel, queue: str) -> Delivery:
    """The next delivery, however long it takes."""
    delivered = asyncio.Queue[Delivery]()
    await channel.consume(queue, delivered.put_nowait, prefetch=1)
    async with asyncio.timeout(30):
        return await delivered.get()
