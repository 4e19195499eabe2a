import asyncio

from stablediffusiond.broker.connection import Connection
from stablediffusiond.broker.message import Delivery, Message
from stablediffusiond.broker.topology import REQUEST_DELIVERY_LIMIT, Topology, declare
from stablediffusiond.settings import BrokerSettings


async def test_declaring_twice_is_declaring_once(settings: BrokerSettings, topology: Topology) -> None:
    connection = await Connection.open(settings, "test")
    await declare(connection, topology)
    await declare(connection, topology)
    channel = await connection.channel()
    for queue in topology.queues():
        assert await channel.check_queue(queue.name) == 0
    await connection.close()


async def test_a_queue_with_other_arguments_is_used_as_it_is(settings: BrokerSettings, topology: Topology) -> None:
    connection = await Connection.open(settings, "test")
    channel = await connection.channel()
    await channel.declare_queue(topology.requests, {"x-queue-type": "classic"})
    await declare(connection, topology)
    channel = await connection.channel()
    assert await channel.check_queue(topology.crashed) == 0
    await connection.close()


async def test_a_job_that_kills_daemons_ends_in_crashed(settings: BrokerSettings, topology: Topology) -> None:
    connection = await Connection.open(settings, "test")
    await declare(connection, topology)
    channel = await connection.channel()
    await channel.confirm_publishes()
    await channel.publish(Message(b"{}", message_id="poison", reply_to="results.x"), "", topology.requests)
    for earlier in range(REQUEST_DELIVERY_LIMIT + 1):
        delivery = await channel.get(topology.requests)
        assert delivery is not None
        assert delivery.earlier_deliveries == earlier
        delivery.requeue()
    assert await channel.get(topology.requests) is None
    arrived: list[Message] = []
    await _first_delivery(connection, topology.crashed, arrived)
    assert (arrived[0].message_id, arrived[0].reply_to) == ("poison", "results.x")
    await connection.close()


async def _first_delivery(connection: Connection, queue: str, arrived: list[Message]) -> None:
    came = asyncio.Event()
    channel = await connection.channel()

    def on_delivery(delivery: Delivery) -> None:
        arrived.append(delivery.message)
        came.set()

    await channel.consume(queue, on_delivery, prefetch=1)
    async with asyncio.timeout(20):
        await came.wait()


def test_clients_may_listen_to_results_queues_only() -> None:
    topology = Topology()
    assert topology.is_results_queue("results")
    assert topology.is_results_queue("results.alice")
    for name in ("stablediffusiond", "results.", "resultsalice", "results.a b", "results." + "x" * 255, "amq.gen-1"):
        assert not topology.is_results_queue(name)


def test_replies_cannot_be_sent_into_our_own_machinery() -> None:
    topology = Topology()
    assert topology.may_reply_to("my.queue")
    assert topology.may_reply_to("amq.gen-xyz")
    assert not topology.may_reply_to("stablediffusiond")
    assert not topology.may_reply_to("stablediffusiond.crashed")


def test_a_name_that_leaves_no_room_has_no_previews_of_its_own() -> None:
    assert Topology.previews_of("results." + "x" * 239) == "preview.results." + "x" * 239
    assert Topology.previews_of("results." + "x" * 240) is None
    assert Topology.previews_of("ä" * 124) is None
