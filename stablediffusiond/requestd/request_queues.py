"""The request queues, and consumers that are delivered one message each.

A consumer's prefetch says how many messages RabbitMQ delivers in advance, not what they cost, and it cannot be changed
while the consumer is there. So there is a consumer for each message, with a prefetch of one: it is made when there is
room for a job, and cancelled directly before that job is acked, since the ack would bring it the next one. It is not
cancelled earlier: if its node of a cluster dies, RabbitMQ (3.10) delivers to nobody what a cancelled consumer had not
acked. ``basic.get`` would need no consumer, but while a queue has no leader it ends the connection.
"""

import asyncio
import contextlib
import uuid
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from typing import Final

from stablediffusiond.broker.channel import Channel
from stablediffusiond.broker.message import Delivery
from stablediffusiond.broker.topology import RequestQueue
from stablediffusiond.requestd.queue_failures import QueueFailures

#: How long a message that is there may be on its way.
_DELIVERY_SECONDS: Final = 1.0


@dataclass(eq=False)
class _Consumer:
    """One consumer, and what its only delivery is settled with."""

    channel: Channel
    priority: int
    #: Known before the broker answers, so that it can be cancelled whatever happens meanwhile.
    tag: str = field(default_factory=lambda: str(uuid.uuid4()))
    delivered: asyncio.Event = field(default_factory=asyncio.Event)

    def ack(self, tag: int) -> None:
        self.channel.cancel_exhausted(self.tag)
        self.channel.ack(tag)

    def requeue(self, tag: int) -> None:
        self.channel.cancel_exhausted(self.tag)
        self.channel.requeue(tag)


class RequestQueues:
    """Those of one channel."""

    def __init__(
        self,
        channel: Channel,
        on_delivery: Callable[[RequestQueue, Delivery], None],
        failures: QueueFailures,
    ) -> None:
        self._channel = channel
        self._on_delivery = on_delivery
        self._failures = failures
        #: Those that have not been delivered a message yet, and those that are being made.
        self._waiting: dict[RequestQueue, _Consumer] = {}

    @property
    def waiting(self) -> Collection[RequestQueue]:
        """Those that hold no message, as far as is known here."""
        return self._waiting.keys()

    def waits_with(self, queue: RequestQueue) -> int | None:
        """The priority of the consumer that waits for a message of ``queue``."""
        return self._waiting[queue].priority if queue in self._waiting else None

    async def consume_one(self, queue: RequestQueue, priority: int = 0) -> bool:
        """Have one message of ``queue`` delivered, now or when there is one; whether it was delivered now.

        It is asked for with a consumer of that ``priority``.
        """
        if self.waits_with(queue) == priority:
            return False
        await self.stop_waiting([queue])
        consumer = self._waiting[queue] = _Consumer(self._channel, priority)

        def on_delivery(delivery: Delivery) -> None:
            consumer.delivered.set()
            if self._waiting.get(queue) is consumer:
                del self._waiting[queue]
            self._on_delivery(queue, replace(delivery, channel=consumer))

        with self._failures.of(queue.name):
            await self._channel.consume(
                queue.name, on_delivery, prefetch=1, consumer_tag=consumer.tag, priority=priority
            )
        if not consumer.delivered.is_set() and (await self._channel.depth(queue.name)).messages:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(consumer.delivered.wait(), _DELIVERY_SECONDS)
        return consumer.delivered.is_set()

    async def stop_waiting(self, queues: Collection[RequestQueue]) -> None:
        """Have no message of ``queues`` delivered. Consumers that have been delivered one stay until it is settled."""
        consumers = [self._waiting.pop(queue) for queue in queues if queue in self._waiting]
        await self._channel.cancel_consumers([consumer.tag for consumer in consumers])
