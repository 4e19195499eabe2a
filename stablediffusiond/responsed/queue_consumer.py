"""The AMQP consumer of one client, on a channel of its own, made again after every outage.

Nothing is buffered beyond the prefetch. Events may be lost, so only the newest of each kind and job waits for a slow
reader.
"""

import asyncio
import logging
from collections import OrderedDict, deque
from typing import Final

from stablediffusiond.broker.channel import Channel
from stablediffusiond.broker.connection import Connection
from stablediffusiond.broker.link import Link
from stablediffusiond.broker.message import Delivery
from stablediffusiond.broker.topology import Topology, declare_queues
from stablediffusiond.errors import BrokerError, BrokerFailed
from stablediffusiond.responsed import lines
from stablediffusiond.responsed.deduplication import ClientDeliveries
from stablediffusiond.responsed.lines import Line

log = logging.getLogger(__name__)

_EVENTS_KEPT: Final = 100
_RETRY_SECONDS: Final = (0.1, 5.0)


class QueueConsumer:
    """Deliveries of ``queue``, numbered for one client."""

    def __init__(
        self, link: Link, topology: Topology, queue: str, *, prefetch: int, progress: bool, previews: bool
    ) -> None:
        self._link = link
        self._topology = topology
        self._queue = queue
        self._prefetch = prefetch
        self._wants_progress = progress
        #: Routing keys of events: the queue's name is that of events for all who listen to any.
        self._event_keys = [queue] * (progress or previews)
        if previews and (key := Topology.previews_of(queue)) is not None:
            self._event_keys.append(key)
        self._undelivered: deque[Delivery] = deque()
        self._newest_events: OrderedDict[tuple[object, ...], Line] = OrderedDict()
        self._deliveries = ClientDeliveries(prefetch)
        self._available = asyncio.Event()
        #: Set each time the queue is consumed anew.
        self.attached = asyncio.Event()

    async def run(self) -> None:
        """Consume until cancelled, over as many connections as it takes."""
        retry_seconds, longest_seconds = _RETRY_SECONDS
        suspected, logged = False, ""
        while True:
            connection = await self._link.connection()
            channel: Channel | None = None
            try:
                if suspected:
                    await self._try_separately()
                channel = await self._attach(connection)
                retry_seconds, suspected, logged = _RETRY_SECONDS[0], False, ""
                await asyncio.wait({channel.lost})
                log.debug("%s: %s", self._queue, channel.lost.result())
            except BrokerError as error:
                suspected = suspected or isinstance(error, BrokerFailed)
                if logged != str(error):
                    log.warning("%s cannot be consumed: %s; trying on", self._queue, error)
                    logged = str(error)
            finally:
                # The channel is gone: the broker delivers them again.
                self._undelivered.clear()
                self._deliveries.detach()
                if channel is not None:
                    await channel.close()
            await asyncio.sleep(retry_seconds)
            retry_seconds = min(retry_seconds * 2, longest_seconds)

    async def next(self) -> tuple[Line, int | None]:
        """The next line for the client, and its delivery number if it has to be settled."""
        while True:
            if self._undelivered:
                delivery = self._undelivered.popleft()
                number = self._deliveries.add(delivery)
                return lines.reply(delivery, number), number
            if self._newest_events:
                return self._newest_events.popitem(last=False)[1], None
            self._available.clear()
            await self._available.wait()

    @property
    def outstanding(self) -> int:
        """Deliveries that were handed out by ``next`` and not settled."""
        return len(self._deliveries)

    def settle(self, number: int) -> bool:
        """Ack delivery ``number``; one that is settled already is left alone. False: there never was one."""
        return self._deliveries.settle(number)

    async def _try_separately(self) -> None:
        """See whether the queue can be consumed, after a connection ended while we were about to.

        RabbitMQ ends the whole connection on which a queue is consumed that has lost its leader, and all clients share
        the one that we have.
        """
        async with self._link.separate_connection() as connection:
            channel = await connection.channel()
            await channel.consume(self._queue, lambda _: None, prefetch=1)

    async def _attach(self, connection: Connection) -> Channel:
        await declare_queues(connection, [self._topology.results_queue(self._queue)])
        channel = await connection.channel()
        try:
            if self._event_keys:
                private = await channel.bind_private_queue(self._topology.events, self._event_keys, _EVENTS_KEPT)
                await channel.consume(private, self._on_event, prefetch=_EVENTS_KEPT)
            await channel.consume(self._queue, self._on_delivery, prefetch=self._prefetch)
        except BaseException:
            await channel.close()
            raise
        self.attached.set()
        return channel

    def _on_delivery(self, delivery: Delivery) -> None:
        if not self._deliveries.recognise(delivery):
            self._undelivered.append(delivery)
            self._available.set()

    def _on_event(self, delivery: Delivery) -> None:
        delivery.ack()
        line = lines.event(delivery.message)
        if line is None or (line.head["type"] == "progress" and not self._wants_progress):
            return
        self._newest_events[line.head["type"], line.head.get("id"), line.head.get("index")] = line
        if len(self._newest_events) > _EVENTS_KEPT:
            self._newest_events.popitem(last=False)
        self._available.set()
