import asyncio
from typing import Any

import pytest

from stablediffusiond.broker import channel as channel_module
from stablediffusiond.broker.channel import Channel
from stablediffusiond.broker.connection import Connection
from stablediffusiond.broker.link import Link
from stablediffusiond.broker.message import Delivery, Message
from stablediffusiond.broker.publisher import Publisher
from stablediffusiond.broker.topology import Topology, declare
from stablediffusiond.errors import Unroutable
from stablediffusiond.settings import BrokerSettings
from tools.private_broker import PrivateBroker


async def depth(connection: Connection, queue: str) -> int:
    channel = await connection.channel()
    count = await channel.check_queue(queue)
    await channel.close()
    return count


async def test_a_published_message_is_there(settings: BrokerSettings, topology: Topology) -> None:
    async with Link(settings, "test") as link:
        connection = await link.connection()
        await declare(connection, topology)
        headers = {"steps": 20, "guidance_scale": 7.5, "prompt": "Käse 🐈", "none": None}
        sent = Message(b"x" * 300_000, message_id="m", correlation_id="c", type="image", headers=headers)
        await Publisher(link).publish(sent, topology.results)
        channel = await connection.channel()
        came = await channel.get(topology.results)
        assert came is not None
        assert came.message.body == sent.body
        assert came.message.persistent
        expected = {**headers, "guidance_scale": "7.5"}
        assert {name: came.message.headers[name] for name in headers} == expected


async def test_an_unroutable_message_is_said_to_be_so(settings: BrokerSettings) -> None:
    async with Link(settings, "test") as link:
        publisher = Publisher(link)
        with pytest.raises(Unroutable, match="nobody"):
            await publisher.publish(Message(b"", message_id="m"), "nobody")


async def test_a_publish_that_is_not_confirmed_is_repeated(
    settings: BrokerSettings, topology: Topology, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel_module, "_CONFIRM_SECONDS", 0.2)
    on_confirm, lost = Channel._on_confirm, False

    def lose_the_first(self: Channel, frame: Any) -> None:
        nonlocal lost
        if lost:
            on_confirm(self, frame)
        lost = True

    monkeypatch.setattr(Channel, "_on_confirm", lose_the_first)
    async with Link(settings, "test") as link:
        connection = await link.connection()
        await declare(connection, topology)
        await Publisher(link).publish(Message(b"x", message_id="m"), topology.results)
        channel = await connection.channel()
        came = [await channel.get(topology.results) for _ in range(2)]
        assert [delivery.message.message_id for delivery in came if delivery] == ["m", "m"]


async def test_what_amqp_cannot_carry_is_an_error_and_not_tried_for_ever(settings: BrokerSettings) -> None:
    async with Link(settings, "test") as link:
        with pytest.raises(ValueError, match="AMQP cannot carry"):
            await Publisher(link).publish(Message(b"", message_id="m", headers={"set": {1, 2}}), "nobody")


async def test_a_full_queue_holds_the_message_back_until_there_is_room(
    settings: BrokerSettings, topology: Topology, broker: PrivateBroker
) -> None:
    refusals: asyncio.Queue[str | None] = asyncio.Queue()
    async with Link(settings, "test") as link:
        connection = await link.connection()
        await declare(connection, topology)
        broker.ctl(
            "set_policy", f"full-{topology.results}", f"^{topology.results}$",
            '{"max-length": 1, "overflow": "reject-publish"}', "--apply-to", "queues",
        )  # fmt: skip
        publisher = Publisher(link, on_refusal=refusals.put_nowait)
        sending = asyncio.create_task(_publish_many(publisher, topology.results, 20))
        async with asyncio.timeout(30):
            reason = await refusals.get()
            assert reason is not None
            assert topology.results in reason
            channel = await connection.channel()
            got: set[str | None] = set()
            all_came = asyncio.Event()

            def on_delivery(delivery: Delivery) -> None:
                got.add(delivery.message.message_id)
                delivery.ack()
                if len(got) == 20:
                    all_came.set()

            await channel.consume(topology.results, on_delivery, prefetch=10)
            await sending
            assert await refusals.get() is None
            await all_came.wait()
        assert got == {f"m{index}" for index in range(20)}
        broker.ctl("clear_policy", f"full-{topology.results}")


async def _publish_many(publisher: Publisher, queue: str, count: int) -> None:
    for index in range(count):
        await publisher.publish(Message(b"x", message_id=f"m{index}"), queue)


async def test_an_alarm_stops_publishing_and_its_end_goes_on(own_broker: PrivateBroker, topology: Topology) -> None:
    settings = BrokerSettings.model_validate({"url": own_broker.url})
    async with Link(settings, "test") as link:
        await declare(await link.connection(), topology)
        publisher = Publisher(link)
        await publisher.publish(Message(b"x", message_id="before"), topology.results)
        changed = asyncio.Event()
        link.on_change = changed.set
        await asyncio.to_thread(own_broker.ctl, "set_vm_memory_high_watermark", "0.0000001")
        sending = asyncio.create_task(publisher.publish(Message(b"x", message_id="during"), topology.results))
        async with asyncio.timeout(20):
            await changed.wait()
        assert link.trouble is not None
        assert "alarm" in link.trouble
        assert not sending.done()
        await asyncio.to_thread(own_broker.ctl, "set_vm_memory_high_watermark", "0.4")
        async with asyncio.timeout(20):
            await sending
        assert link.trouble is None
