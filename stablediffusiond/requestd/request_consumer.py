"""Consuming over a link: on each connection that it makes, requests, crashed jobs and control messages."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final

from stablediffusiond.broker.channel import Channel
from stablediffusiond.broker.connection import Connection
from stablediffusiond.broker.link import Link
from stablediffusiond.broker.message import Delivery, Message
from stablediffusiond.broker.topology import RequestQueue, Topology, depths
from stablediffusiond.errors import BrokerError
from stablediffusiond.requestd.dead_letters import DeadLetterConsumer
from stablediffusiond.requestd.job_forwarding import JobForwarding
from stablediffusiond.requestd.job_processor import JobProcessor
from stablediffusiond.requestd.job_puller import JobPuller
from stablediffusiond.requestd.model_queues import ModelQueues
from stablediffusiond.requestd.queue_choice import QueueChoice
from stablediffusiond.requestd.queue_failures import QueueFailures
from stablediffusiond.requestd.retired_queues import RetiredQueues
from stablediffusiond.requestd.served_models import ServedModels

log = logging.getLogger(__name__)

_CONTROL_BACKLOG: Final = 1000


class RequestConsumer:
    """Takes jobs into ``processor``, crashed ones into ``crashed``."""

    def __init__(
        self,
        link: Link,
        topology: Topology,
        processor: JobProcessor,
        crashed: DeadLetterConsumer,
        *,
        choice: QueueChoice,
        forwarding: JobForwarding,
        models: ServedModels,
        on_control: Callable[[Message], None],
    ) -> None:
        """``choice`` says from which queues jobs are taken; ``look_again`` has it asked once more."""
        self._link = link
        self._topology = topology
        self._processor = processor
        self._crashed = crashed
        self._choice = choice
        self._forwarding = forwarding
        self._models = models
        self._on_control = on_control
        self._failures = QueueFailures()
        self._puller: JobPuller | None = None
        self._model_queues: ModelQueues | None = None
        self._retired: RetiredQueues | None = None
        #: Set once jobs are being taken.
        self.consuming = asyncio.Event()

    async def run(self) -> None:
        """Consume until cancelled."""
        while True:
            connection = await self._link.connection()
            try:
                await self._serve(connection)
            except BrokerError as error:
                log.debug("consuming ended: %s", error)
            connection.abandon()  # where one channel is lost, the whole connection is opened anew
            self._processor.in_flight.detach()

    def look_again(self) -> None:
        """There may be room for another job."""
        if self._puller is not None and self._model_queues is not None and self._retired is not None:
            self._puller.look_again()
            self._model_queues.look_again()
            self._retired.look_again(self._puller)

    async def stop(self) -> None:
        """After ``run`` was cancelled: have no job delivered any more. What was delivered can still be acked."""
        if self._puller is None:
            return
        try:
            await self._puller.stop()
        except BrokerError as error:
            log.debug("the connection to the broker was lost first: %s", error)

    async def backlog(self) -> int:
        """Jobs that wait in the queues that this daemon takes them from."""
        connection = self._link.live
        if connection is None or self._puller is None:
            return 0
        unknown = [queue.name for queue in self._sources() if queue not in self._puller.queues.waiting]
        if not unknown:
            return 0
        try:
            found = await depths(connection, unknown)
        except BrokerError as error:
            log.debug("the queues cannot be counted: %s", error)
            return 0
        return sum(depth.messages for depth in found.values())

    async def _serve(self, connection: Connection) -> None:
        """Consume until the connection or one of its channels is lost.

        Raises:
            BrokerError: always; it says what was lost.
        """
        control, crashed, jobs = [await connection.channel() for _ in range(3)]
        self._model_queues = ModelQueues(connection, self._topology, self._choice, self._models)
        self._retired = RetiredQueues(connection, self._topology, self._models)
        self._puller = JobPuller(
            jobs, self._processor, self._sources, self._choice.priority,
            forwarding=self._forwarding, failures=self._failures,
        )  # fmt: skip
        await self._listen_for_control(control)
        with self._failures.of(self._topology.crashed):
            await self._crashed.consume(crashed)
        self.consuming.set()
        work: set[asyncio.Future[Any]] = {
            asyncio.create_task(self._puller.run(), name="pulling jobs"),
            asyncio.create_task(self._model_queues.run(self._puller), name="queues of models"),
            asyncio.create_task(self._retired.run(self._puller), name="queues of models that are gone"),
        }
        either = {*work, control.lost, crashed.lost, jobs.lost}
        try:
            done, _ = await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in work:
                task.cancel()
        for part in done - work:
            raise part.result()
        for task in done & work:
            task.result()

    def _sources(self) -> list[RequestQueue]:
        """The plain queues, and those of the models that are here or waited for."""
        own = [] if self._model_queues is None else self._model_queues.near
        return [*self._topology.request_queues(), *own]

    async def _listen_for_control(self, channel: Channel) -> None:
        queue = await channel.bind_private_queue(self._topology.control, [""], _CONTROL_BACKLOG)

        def on_control(delivery: Delivery) -> None:
            self._on_control(delivery.message)
            delivery.ack()

        await channel.consume(queue, on_control, prefetch=_CONTROL_BACKLOG)
