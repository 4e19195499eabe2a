"""Properties that no library would write, on requests: each is answered, or refused by the broker, and ends no daemon."""

import asyncio
import contextlib
import json

from stablediffusiond.broker.connection import Connection
from stablediffusiond.broker.message import Delivery, Message
from stablediffusiond.broker.topology import Topology
from stablediffusiond.settings import BrokerSettings
from tests.fuzz import seeds
from tests.fuzz.raw import RawPublisher
from tests.preloaded import Preloaded
from tools.private_broker import PrivateBroker

GOOD = "a good job after all of them"


def test_each_is_answered_and_the_next_good_job_is_done(
    environment: dict[str, str], broker: PrivateBroker, settings: BrokerSettings, topology: Topology
) -> None:
    expected = {GOOD: "done"}
    with (
        Preloaded("tests.requestd.faked", environment) as daemon,
        contextlib.closing(RawPublisher(broker)) as raw,
    ):
        daemon.wait_ready()
        for name, encoded in seeds.tables().items():
            expected |= {
                job_id: end
                for job_id, steps, end in ((name, 1, "done"), (f"no steps, {name}", 0, "failed"))
                if raw.put(topology.requests, encoded, request(job_id, steps))
            }
            raw.put(topology.requests, encoded, b"no JSON")
        assert len(expected) > len(seeds.tables()), "the broker takes most of them"
        raw.put(topology.requests, seeds.tables()["good"], request(GOOD, 1))
        ends = asyncio.run(ends_of(expected, settings, topology))
        assert ends == expected
        assert daemon.process.poll() is None
        assert "Traceback" not in daemon.log


def request(job_id: str, steps: int) -> bytes:
    return json.dumps({"id": job_id, "prompt": "cat", "steps": steps}).encode()


async def ends_of(expected: dict[str, str], settings: BrokerSettings, topology: Topology) -> dict[str, str]:
    """How the jobs in ``expected`` ended; where no queue takes the reply it is looked for where those are kept."""
    found: dict[str, str] = {}
    connection = await Connection.open(settings, "test")
    channel = await connection.channel()
    all_there = asyncio.Event()

    def on_reply(delivery: Delivery) -> None:
        delivery.ack()
        message: Message = delivery.message
        if message.type in {"done", "failed"} and (name := str(json.loads(message.body)["id"])) in expected:
            found[name] = message.type
        if found.keys() == expected.keys():
            all_there.set()

    for queue in (topology.results, topology.unroutable):
        await channel.consume(queue, on_reply, prefetch=100)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(60):
            await all_there.wait()
    await connection.close()
    return found
