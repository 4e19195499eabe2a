import asyncio
import logging
from functools import partial

import pytest

from stablediffusiond.broker.connection import Connection
from stablediffusiond.broker.link import Link
from stablediffusiond.broker.message import Delivery, Message
from stablediffusiond.broker.publisher import Publisher
from stablediffusiond.broker.topology import Topology, declare
from stablediffusiond.errors import BrokerAway, BrokerLost, BrokerRefused, QueueMissing, SettingsError
from stablediffusiond.settings import BrokerSettings
from tools.private_broker import PrivateBroker


def at(url: str) -> BrokerSettings:
    return BrokerSettings.model_validate({"url": url, "connect_timeout_seconds": 2})


async def test_a_wrong_password_is_named(broker: PrivateBroker) -> None:
    with pytest.raises(BrokerRefused, match="wrong user or password") as caught:
        await Connection.open(at(broker.url.replace("guest:guest", "guest:sesame")), "test")
    assert "sesame" not in str(caught.value)


async def test_a_missing_virtual_host_is_named(broker: PrivateBroker) -> None:
    with pytest.raises(BrokerRefused, match="virtual host"):
        await Connection.open(at(broker.url.rsplit("/", 1)[0] + "/nowhere"), "test")


async def test_a_closed_port_is_a_broker_away(free_port: int) -> None:
    with pytest.raises(BrokerAway, match="is RabbitMQ running there"):
        await Connection.open(at(f"amqp://guest:guest@127.0.0.1:{free_port}/%2F"), "test")


async def test_of_several_nodes_the_first_that_answers_is_taken(broker: PrivateBroker, free_port: int) -> None:
    away = f"amqp://guest:guest@127.0.0.1:{free_port}/%2F"
    connection = await Connection.open(at(f"{away}, {broker.url}"), "test")
    await connection.close()


async def test_if_none_of_several_nodes_answers_each_says_why(broker: PrivateBroker, free_port: int) -> None:
    nodes = [f"amqp://guest:guest@127.0.0.1:{free_port}/%2F", broker.url.replace("guest:guest", "guest:sesame")]
    with pytest.raises(BrokerRefused, match=r"is RabbitMQ running there\?; amqp://.*wrong user or password") as caught:
        await Connection.open(at("\n".join(nodes)), "test")
    assert "sesame" not in str(caught.value)


@pytest.mark.parametrize("when", ["being prepared", "in use"])
async def test_a_node_that_takes_connections_and_is_of_no_use_is_left_for_the_next(
    broker: PrivateBroker, when: str
) -> None:
    """As one that has lost a file of its own at a power cut; here a queue is missing at the first address."""
    other = broker.url.replace("/%2F", "/other")
    broker.ctl("add_vhost", "other")
    broker.ctl("set_permissions", "-p", "other", "guest", ".*", ".*", ".*")
    preparing = await Connection.open(at(other), "test")
    await (await preparing.channel()).declare_queue("only here", {})
    await preparing.close()

    async def use(connection: Connection) -> None:
        try:
            await (await connection.channel()).consume("only here", lambda _: None, prefetch=1)
        except QueueMissing:
            connection.abandon()
            raise

    settings = BrokerSettings.model_validate({"url": f"{broker.url}, {other}", "reconnect_min_seconds": 0.05})
    prepared = {"prepare": use} if when == "being prepared" else {}
    async with Link(settings, "test", **prepared) as link, asyncio.timeout(20):
        while True:
            try:
                await use(await link.connection())
                break
            except QueueMissing:
                continue
    broker.ctl("delete_vhost", "other")


async def test_a_link_that_is_thrown_out_each_time_takes_its_time(broker: PrivateBroker) -> None:
    thrown_out = asyncio.Event()
    slow = BrokerSettings.model_validate({"url": broker.url, "reconnect_min_seconds": 0.4})
    async with Link(slow, "test") as link:
        began = asyncio.get_running_loop().time()

        def throw_out() -> None:
            if link.live is not None:
                link.live.abandon()
            if link.reconnects >= 3:
                thrown_out.set()

        link.on_change = throw_out
        async with asyncio.timeout(20):
            await thrown_out.wait()
        assert asyncio.get_running_loop().time() - began > 0.2 + 0.4 + 0.8


@pytest.mark.parametrize("url", ["http://localhost", "localhost:5672", "amqp://localhost:port/"])
async def test_an_url_that_cannot_work_is_an_error_of_the_settings(url: str) -> None:
    with pytest.raises(SettingsError, match=r"\[broker\] url"):
        await Connection.open(at(url), "test")


async def test_a_deleted_queue_ends_the_channel_that_consumed_it(
    settings: BrokerSettings, broker: PrivateBroker
) -> None:
    connection = await Connection.open(settings, "test")
    channel, sibling = await connection.channel(), await connection.channel()
    await channel.declare_queue("short-lived", {"x-queue-type": "quorum"})
    await channel.consume("short-lived", lambda _: None, prefetch=1)
    await asyncio.to_thread(broker.ctl, "delete_queue", "short-lived")
    async with asyncio.timeout(20):
        await asyncio.wait({channel.lost})
    assert isinstance(channel.lost.result(), QueueMissing)
    assert not sibling.lost.done()
    await connection.close()


async def test_what_waits_on_a_lost_connection_fails_at_once(settings: BrokerSettings, broker: PrivateBroker) -> None:
    connection = await Connection.open(settings, "test")
    await asyncio.to_thread(broker.ctl, "close_all_connections", "test")
    async with asyncio.timeout(20):
        await asyncio.wait({connection.lost})
    with pytest.raises(BrokerLost):
        await connection.channel()


async def test_a_link_outlives_its_broker_and_says_so_once(
    own_broker: PrivateBroker, topology: Topology, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    settings = at(own_broker.url)
    prepare = partial(declare, topology=topology)
    async with Link(settings, "takes jobs", prepare) as link, Link(settings, "replies") as out:
        publisher = Publisher(out)
        first = await link.connection()
        await publisher.publish(Message(b"x", message_id="before"), topology.results)
        await asyncio.to_thread(own_broker.settle)
        await asyncio.to_thread(own_broker.kill)
        async with asyncio.timeout(20):
            await asyncio.wait({first.lost})
        sending = asyncio.create_task(publisher.publish(Message(b"x", message_id="during"), topology.results))
        own_broker.launch()  # by this thread: a node ends with the one that has started it
        await asyncio.to_thread(own_broker.wait_up)
        async with asyncio.timeout(60):
            second = await link.connection()
            await sending
            got = await _deliveries(second, topology.results, 2)
        assert second is not first
        assert [delivery.message.message_id for delivery in got] == ["before", "during"]
    outage = [record.message for record in caplog.records if record.message.startswith("takes jobs")]
    assert len([line for line in outage if "lost" in line]) == 1
    assert len([line for line in outage if "trying on" in line]) <= 1
    assert len([line for line in outage if "connected after" in line]) <= 1


async def _deliveries(connection: Connection, queue: str, count: int) -> list[Delivery]:
    got: list[Delivery] = []
    enough = asyncio.Event()

    def on_delivery(delivery: Delivery) -> None:
        got.append(delivery)
        delivery.ack()
        if len(got) == count:
            enough.set()

    channel = await connection.channel()
    await channel.consume(queue, on_delivery, prefetch=1)
    await enough.wait()
    return got
