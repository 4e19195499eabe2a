"""Taking jobs from the broker: how many at a time, and how carefully.

A job that was delivered before and lost (its daemon died) may be the one that kills daemons. It is drawn alone, with
nothing else in our hands that would share its death and be counted as delivered once more. So after every connect the
heads of the queues, where the broker puts what it gives out again, are tried one message at a time; only when all of
them are fresh do we consume with the full prefetch. When another daemon dies meanwhile and its jobs reach us, we stop
consuming, finish what we have, and begin again with the careful part.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import Any, Final

from stablediffusiond.broker.channel import Channel
from stablediffusiond.broker.connection import Connection
from stablediffusiond.broker.link import Link
from stablediffusiond.broker.message import Delivery, Message
from stablediffusiond.broker.topology import PRIORITIES, Topology, depths
from stablediffusiond.errors import BrokerError
from stablediffusiond.logs import of_job
from stablediffusiond.requestd.dead_letters import DeadLetterConsumer
from stablediffusiond.requestd.job_processor import JobProcessor

log = logging.getLogger(__name__)

_CONTROL_BACKLOG: Final = 1000
#: So many connections in turn do not end at the same queue by chance.
_OFTEN: Final = 3


class RequestConsumer:
    """Consumes over ``link`` into ``processor``, over as many connections as it takes."""

    def __init__(
        self,
        link: Link,
        topology: Topology,
        processor: JobProcessor,
        crashed: DeadLetterConsumer,
        *,
        prefetch: int,
        on_control: Callable[[Message], None],
    ) -> None:
        self._link = link
        self._topology = topology
        self._processor = processor
        self._crashed = crashed
        self._prefetch = prefetch
        self._on_control = on_control
        self._suspects: list[Delivery] = []
        self._suspected = asyncio.Event()
        self._consumers: list[str] = []
        self._channel: Channel | None = None
        #: Where the last connection has ended, and how often in turn it was there.
        self._failures: tuple[str, int] = ("", 0)
        #: Set once jobs are being taken.
        self.consuming = asyncio.Event()

    async def run(self) -> None:
        """Take jobs until cancelled."""
        while True:
            connection = await self._link.connection()
            try:
                await self._serve(connection)
            except BrokerError as error:
                log.debug("taking jobs ended: %s", error)
            connection.abandon()  # half a link is none: the connection is made anew as a whole
            self._processor.in_flight.detach()

    async def stop(self) -> None:
        """After ``run`` was cancelled: have nothing more delivered. What is in our hands can still be acked."""
        if self._channel is None:
            return
        try:
            await self._cancel_consumers(self._channel)
        except BrokerError as error:
            log.debug("the broker has gone first: %s", error)
        for delivery in self._suspects:
            delivery.requeue()

    async def backlog(self) -> int:
        """Jobs that wait with the broker. While we have none in our hands there are none: we would have taken them."""
        connection = self._link.live
        if connection is None or not len(self._processor.in_flight):
            return 0
        try:
            found = await depths(connection, map(self._topology.request_queue, PRIORITIES))
        except BrokerError as error:
            log.debug("the queues cannot be counted: %s", error)
            return 0
        return sum(depth.messages for depth in found.values())

    async def _serve(self, connection: Connection) -> None:
        """Take jobs until a part of the link is lost.

        Raises:
            BrokerError: always; it says what was lost.
        """
        control, crashed, jobs = [await connection.channel() for _ in range(3)]
        self._channel = jobs
        self._suspects.clear()
        self._consumers.clear()
        await self._listen_for_control(control)
        with self._about(self._topology.crashed):
            await self._crashed.consume(crashed)
        self.consuming.set()
        taking = asyncio.create_task(self._take(jobs), name="taking jobs")
        either: set[asyncio.Future[Any]] = {taking, control.lost, crashed.lost, jobs.lost}
        try:
            done, _ = await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            taking.cancel()
        for part in done - {taking}:
            raise part.result()
        taking.result()

    async def _take(self, channel: Channel) -> None:
        while True:
            await self._try_heads(channel)
            await self._consume(channel)
            await self._suspected.wait()
            await self._cancel_consumers(channel)
            await self._draw_suspects()

    async def _try_heads(self, channel: Channel) -> None:
        """Draw what was delivered before, one job at a time, until the head of every queue is fresh or empty."""
        for priority in PRIORITIES:
            queue = self._topology.request_queue(priority)
            while True:
                with self._about(queue):
                    delivery = await channel.get(queue)
                if delivery is None:
                    break
                if not delivery.earlier_deliveries:
                    self._processor.receive(delivery)
                    break
                self._suspects.append(delivery)
                await self._draw_suspects()

    async def _draw_suspects(self) -> None:
        """Each alone, after everything else has been settled."""
        self._suspected.clear()
        while self._suspects:
            delivery = self._suspects.pop(0)
            if self._processor.in_flight.recognise(delivery):
                continue
            await self._processor.in_flight.empty()
            job_id, times = _names(delivery)
            log.info("job %s was delivered %d times before; it is drawn alone", job_id, times, extra=of_job(job_id))
            self._processor.receive(delivery)
            await self._processor.in_flight.empty()

    async def _consume(self, channel: Channel) -> None:
        for priority in PRIORITIES:
            queue = self._topology.request_queue(priority)
            with self._about(queue):
                self._consumers.append(await channel.consume(queue, self._on_delivery, prefetch=self._prefetch))

    @contextlib.contextmanager
    def _about(self, queue: str) -> Iterator[None]:
        """What is done here is about ``queue``."""
        try:
            yield
        except BrokerError as error:
            self._count_failure(queue, error)
            raise
        if self._failures[0] == queue:
            self._failures = ("", 0)

    def _count_failure(self, queue: str, error: BrokerError) -> None:
        """Tell the operator of a queue at which every connection ends: it has no leader."""
        where, times = self._failures
        self._failures = (queue, times + 1 if where == queue else 1)
        if self._failures[1] == _OFTEN:
            log.error("%s cannot be consumed: %s; trying on", queue, error)

    async def _cancel_consumers(self, channel: Channel) -> None:
        while self._consumers:
            await channel.cancel_consumer(self._consumers.pop())

    def _on_delivery(self, delivery: Delivery) -> None:
        if delivery.earlier_deliveries:
            self._suspects.append(delivery)
            self._suspected.set()
        else:
            self._processor.receive(delivery)

    async def _listen_for_control(self, channel: Channel) -> None:
        queue = await channel.bind_private_queue(self._topology.control, [""], _CONTROL_BACKLOG)

        def on_control(delivery: Delivery) -> None:
            self._on_control(delivery.message)
            delivery.ack()

        await channel.consume(queue, on_control, prefetch=_CONTROL_BACKLOG)


def _names(delivery: Delivery) -> tuple[str, int]:
    return delivery.message.message_id or "without id", delivery.earlier_deliveries
