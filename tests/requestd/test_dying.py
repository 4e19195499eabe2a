"""A daemon of which a part has died would look alive to systemd, and draw nothing: it ends instead."""

import asyncio
import time

import pytest

from stablediffusiond.broker.connection import Connection
from stablediffusiond.broker.message import Delivery, Message
from stablediffusiond.broker.topology import REQUEST_DELIVERY_LIMIT, Topology
from stablediffusiond.errors import StableDiffusiondError
from stablediffusiond.requestd.dead_letters import ROUNDS
from stablediffusiond.settings import BrokerSettings
from tests.preloaded import Preloaded
from tests.requestd import dying


@pytest.mark.parametrize("part", ["device", "engine_without_a_word", "encoder", "link_of_jobs", "link_of_replies"])
async def test_the_process_ends_with_an_error_and_the_job_stays(
    part: str, environment: dict[str, str], settings: BrokerSettings, topology: Topology
) -> None:
    with Preloaded("tests.requestd.dying", environment, part) as daemon:
        daemon.wait_ready()
        connection = await Connection.open(settings, "test")
        channel = await connection.channel()
        await channel.confirm_publishes()
        await channel.publish(Message(b'{"prompt": "cat"}'), "", topology.requests)

        assert daemon.process.wait(30) == StableDiffusiondError.exit_code
        assert ("ended" if part == "engine_without_a_word" else str(dying.ERROR)) in daemon.log
        returned: asyncio.Future[Delivery] = asyncio.get_running_loop().create_future()
        await channel.consume(topology.requests, returned.set_result, prefetch=1)
        assert (await returned).earlier_deliveries == 1
        await connection.close()


@pytest.mark.parametrize("part", ["never_loaded", "loaded_too_long"])
def test_a_load_that_hangs_is_waited_for_and_not_for_ever(part: str, environment: dict[str, str]) -> None:
    with Preloaded("tests.requestd.dying", environment, part) as daemon:
        assert daemon.process.wait(60) == StableDiffusiondError.exit_code, "so that systemd starts it again"
        assert "the model is not loaded after " in daemon.log
        assert "Traceback" not in daemon.log
        assert daemon.notices.count("EXTEND_TIMEOUT_USEC=60000000") > 1
        assert "READY=1" not in daemon.notices


@pytest.mark.parametrize("part", ["never_loaded", "loaded_too_long"])
def test_sigterm_is_obeyed_while_a_model_loads(part: str, environment: dict[str, str]) -> None:
    """Its thread waits for ever, or never lets go of the interpreter for long: nobody waits for it."""
    with Preloaded("tests.requestd.dying", environment, f"{part}_and_not_noticed") as daemon:
        daemon.wait_status("loading doodle")
        began = time.monotonic()
        assert daemon.stop(30) == 0
        assert time.monotonic() - began < 10
        assert "stablediffusiond: stopped" in daemon.log


async def test_an_error_over_a_crashed_job_ends_it_too_and_does_not_do_so_for_ever(
    environment: dict[str, str], settings: BrokerSettings, topology: Topology
) -> None:
    """Or the queue of the crashed would stand still and look served, or no daemon would ever live again."""
    connection = await Connection.open(settings, "test")
    channel = await connection.channel()
    with Preloaded("tests.requestd.dying", environment, "answer_for_the_crashed") as daemon:
        daemon.wait_ready()
        await channel.confirm_publishes()
        message = Message(b'{"prompt": "cat"}', message_id="m", headers={"some": "header"})
        await channel.publish(message, "", topology.crashed)
        assert daemon.process.wait(30) == StableDiffusiondError.exit_code
        assert str(dying.ERROR) in daemon.log
    deliveries = 1
    while deliveries <= ROUNDS + REQUEST_DELIVERY_LIMIT:
        again = await channel.get(topology.crashed)
        assert again is not None
        deliveries = again.earlier_deliveries + 1
        again.requeue()
    with Preloaded("tests.requestd.dying", environment, "answer_for_the_crashed") as daemon:
        answered: asyncio.Future[Delivery] = asyncio.get_running_loop().create_future()
        await channel.declare_queue(topology.results, topology.results_queue(topology.results).arguments)
        await channel.consume(topology.results, answered.set_result, prefetch=1)
        async with asyncio.timeout(30):
            assert b"crashed" in (await answered).message.body
        daemon.wait_log("kept in")
        assert daemon.stop() == 0
    await connection.close()
