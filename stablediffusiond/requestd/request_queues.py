"""The request queues, one for each priority, and consumers that are delivered one message each.

A consumer's prefetch says how many messages RabbitMQ delivers in advance, not what they cost, and it cannot be changed
while the consumer is there. So there is a consumer for each message, with a prefetch of one: it is made when there is
room for a job, and cancelled directly before that job is acked, since the ack would bring it the next one. It is not
cancelled earlier: if its node of a cluster dies, RabbitMQ (3.10) delivers to nobody what a cancelled consumer had not
acked. ``basic.get`` would need no consumer, but while a queue has no leader it ends the connection.
"""

import asyncio
import contextlib
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from stablediffusiond.broker.channel import Channel
from stablediffusiond.broker.message import Delivery
from stablediffusiond.broker.topology import PRIORITIES, Topology
from stablediffusiond.messages.request import Priority
from stablediffusiond.requestd.queue_failures import QueueFailures

#: How long a message that is there may be on its way.
_DELIVERY_SECONDS: Final = 1.0


@dataclass(eq=False)
class _Consumer:
    """One consumer, and what its only delivery is settled with."""

    channel: Channel
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
        topology: Topology,
        on_delivery: Callable[[Delivery], None],
        failures: QueueFailures,
    ) -> None:
        self._channel = channel
        self._topology = topology
        self._on_delivery = on_delivery
        self._failures = failures
        self._waiting: dict[Priority, _Consumer] = {}  #: those that have not been delivered a message yet

    @property
    def all_consumed(self) -> bool:
        """Whether no queue holds a message, as far as is known here."""
        return len(self._waiting) == len(PRIORITIES)

    async def consume_one(self, priority: Priority) -> bool:
        """Have one message of that queue delivered, now or when there is one; whether it was delivered now."""
        if priority in self._waiting:
            return False
        consumer = self._waiting[priority] = _Consumer(self._channel)

        def on_delivery(delivery: Delivery) -> None:
            consumer.delivered.set()
            if self._waiting.get(priority) is consumer:
                del self._waiting[priority]
            self._on_delivery(replace(delivery, channel=consumer))

        queue = self._topology.request_queue(priority)
        with self._failures.of(queue):
            await self._channel.consume(queue, on_delivery, prefetch=1, consumer_tag=consumer.tag)
        if not consumer.delivered.is_set() and (await self._channel.depth(queue)).messages:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(consumer.delivered.wait(), _DELIVERY_SECONDS)
        return consumer.delivered.is_set()

    async def stop_waiting(self, priority: Priority) -> None:
        """Have no message of that queue delivered. Consumers that have been delivered one stay until it is settled."""
        consumer = self._waiting.pop(priority, None)
        if consumer is not None:
            await self._channel.cancel_consumer(consumer.tag)
