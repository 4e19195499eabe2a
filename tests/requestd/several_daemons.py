"""Daemons with several models that draw without one, and a client of their broker."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field

from stablediffusiond.broker.channel import Channel
from stablediffusiond.broker.connection import Connection
from stablediffusiond.broker.message import Delivery, Message
from stablediffusiond.broker.topology import Topology, declare, depths
from stablediffusiond.errors import Unroutable
from stablediffusiond.messages.request import Priority
from stablediffusiond.settings import BrokerSettings
from tests.faults.model_failpoints import FAKE_BYTES
from tests.preloaded import Preloaded
from tools.daemons import Daemon

MODULE = "tests.faults.requestd_with_failpoint"
ROOM_FOR_TWO = str(int(2.5 * FAKE_BYTES))


def with_models(environment: Mapping[str, str], *models: str, default: str = "doodle") -> dict[str, str]:
    """Settings of a daemon with ``models`` beside its ``default``."""
    return {
        **environment,
        "STABLEDIFFUSIOND_MODEL__NAME": default,
        **{f"STABLEDIFFUSIOND_MODELS__{model.upper()}__NAME": "doodle" for model in models},
        "STABLEDIFFUSIOND_RESIDENCY__DEVICE_BYTES": ROOM_FOR_TWO,
        "STABLEDIFFUSIOND_RESIDENCY__MAX_WAIT_SECONDS": "2",
    }


@dataclass
class Start:
    """Starts daemons that draw without a model, and ends them with the test."""

    _running: ExitStack

    def __call__(self, environment: Mapping[str, str], failpoint: str = "none") -> Daemon:
        daemon = self._running.enter_context(Preloaded(MODULE, environment, failpoint, "fake-denoiser"))
        return daemon.wait_ready()


@dataclass
class Broker:
    """What a client of a foreign make does."""

    connection: Connection
    channel: Channel
    topology: Topology
    ends: dict[str, str] = field(default_factory=dict)  #: of jobs, in order; with the code where it is an error
    drawn_with: dict[str, str] = field(default_factory=dict)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def publish(
        self, job_id: str, *, queue_of: str | None = None, priority: Priority = "normal", **fields: object
    ) -> None:
        body = json.dumps({"prompt": "cat", "steps": 2, "width": 64, "height": 64, **fields}).encode()
        queue = self.topology.request_queue(priority, queue_of)
        await self.channel.publish(Message(body, message_id=job_id), "", queue)

    async def until_queues_are_there(self, *models: str) -> None:
        """A daemon declares them while it takes jobs already."""
        names = {self.topology.request_queue("low", model) for model in models}
        async with asyncio.timeout(30):
            while names - set(await depths(self.connection, names)):
                await asyncio.sleep(0.05)

    async def until_waited_at(self, queues: Iterable[str], consumers: int) -> None:
        """A daemon without jobs has a consumer at each queue."""
        async with asyncio.timeout(30):
            while not all(depth.consumers == consumers for depth in (await depths(self.connection, queues)).values()):
                await asyncio.sleep(0.05)

    async def until_delivered(self, queues: Iterable[str]) -> None:
        """A consumer has been given everything that is in ``queues``."""
        async with asyncio.timeout(30):
            while any(depth.messages for depth in (await depths(self.connection, queues)).values()):
                await asyncio.sleep(0.05)

    async def until_served(self, model: str) -> None:
        """A daemon that connects makes known what it has."""
        async with asyncio.timeout(30):
            while True:
                try:
                    return await self.channel.publish(Message(b""), self.topology.serving, model)
                except Unroutable:
                    await asyncio.sleep(0.05)

    async def until_ended(self, *jobs: str) -> None:
        async with asyncio.timeout(60):
            while not set(jobs) <= set(self.ends):
                self.changed.clear()
                await self.changed.wait()

    def on_reply(self, delivery: Delivery) -> None:
        message = delivery.message
        job_id = message.correlation_id or ""
        if message.type == "image":
            self.drawn_with[job_id] = str(message.headers["model"])
        else:
            error = json.loads(message.body).get("error")
            self.ends[job_id] = error["code"] if error else "done"
            self.changed.set()
        delivery.ack()


@asynccontextmanager
async def connected(settings: BrokerSettings, topology: Topology) -> AsyncIterator[Broker]:
    connection = await Connection.open(settings, "test")
    await declare(connection, topology)
    channel = await connection.channel()
    await channel.confirm_publishes()
    broker = Broker(connection, channel, topology)
    await channel.consume(topology.results, broker.on_reply, prefetch=100)
    try:
        yield broker
    finally:
        await connection.close()
