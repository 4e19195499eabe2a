"""Two request daemons on one broker share large jobs: neither has one that it has not begun while the other is idle."""

import asyncio
import json
import os
from collections import Counter
from pathlib import Path

import pytest

from stablediffusiond.broker.channel import Channel
from stablediffusiond.broker.connection import Connection
from stablediffusiond.broker.message import Delivery, Message
from stablediffusiond.broker.topology import Topology, declare
from stablediffusiond.settings import BrokerSettings
from tests.preloaded import Preloaded

JOBS, IMAGES, STEPS, BATCH = 10, 16, 2, 8
SIZES = {
    "one size": [(64, 64)],
    "several sizes": [(64, 64), (128, 128), (96, 64), (256, 256), (128, 64)],
}
#: While one step is made a job is delivered; where sizes differ, each has its turn.
STEPS_UNTIL_BEGUN = {"one size": 1, "several sizes": 3}


@pytest.mark.parametrize("sizes", list(SIZES))
async def test_a_job_begins_as_soon_as_it_is_taken_and_both_draw(
    sizes: str, environment: dict[str, str], settings: BrokerSettings, topology: Topology, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    chosen = {**environment, "STABLEDIFFUSIOND_ENGINE__MAX_IMAGES": str(BATCH)}
    connection = await Connection.open(settings, "test")
    await declare(connection, topology)
    channel = await connection.channel()
    with Preloaded("tests.requestd.narrating", chosen, str(gate)) as first:
        first.wait_ready()
        await publish(channel, topology, SIZES[sizes])
        first.wait_log("job 0 begins")
        with Preloaded("tests.requestd.narrating", chosen, str(gate)) as second:
            second.wait_ready().wait_log("job . begins")
            gate.write_bytes(b"")
            gate.unlink()  # both have it open
            pair = first, second
            await all_done(channel, topology)
            for daemon in pair:
                assert steps_until_begun(daemon.log) <= STEPS_UNTIL_BEGUN[sizes], daemon.log
            if sizes == "one size":
                assert min(daemon.log.count("taken") for daemon in pair) >= JOBS / 2 - 1
    await connection.close()


async def publish(channel: Channel, topology: Topology, sizes: list[tuple[int, int]]) -> None:
    await channel.confirm_publishes()
    for number in range(JOBS):
        width, height = sizes[number % len(sizes)]
        fields = {"prompt": "cat", "count": IMAGES, "steps": STEPS, "width": width, "height": height}
        await channel.publish(Message(json.dumps(fields).encode(), message_id=str(number)), "", topology.requests)


async def all_done(channel: Channel, topology: Topology) -> None:
    """Wait for the last reply to each job."""
    done, last = Counter[str](), asyncio.Event()

    def on_reply(delivery: Delivery) -> None:
        done[delivery.message.type or ""] += 1
        delivery.ack()
        if done["done"] == JOBS:
            last.set()

    await channel.consume(topology.results, on_reply, prefetch=JOBS)
    async with asyncio.timeout(120):
        await last.wait()
    assert done == {"done": JOBS, "image": JOBS * IMAGES}


def steps_until_begun(log: str) -> int:
    """The most steps that a job waited for while no image was about to be finished."""
    waiting: dict[str, int] = {}
    most = 0
    for line in log.splitlines():
        said, _, job_id = line.partition(" ")
        if said == "taken":
            waiting[job_id] = 0
        elif said == "begun":
            most = max(most, waiting.pop(job_id, 0))
        elif line == "step":
            waiting = {job: steps + 1 for job, steps in waiting.items()}
    assert not waiting
    return most
