"""The request queues, one for each priority, and consumers that are delivered one message each.

A consumer's prefetch says how many messages RabbitMQ delivers in advance, not what they cost, and it cannot be changed
while the consumer is there. So each consumer has a prefetch of one and is cancelled when it has got its message; the
next one is made when there is room for a job again. ``basic.get`` would do the same in one method, but RabbitMQ answers
it with the end of the connection while a queue of a cluster has no leader (3.10); a consumer waits for the new one.
"""

import asyncio
import contextlib
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from stablediffusiond.broker.channel import Channel
from stablediffusiond.broker.message import Delivery
from stablediffusiond.broker.topology import PRIORITIES, Topology
from stablediffusiond.messages.request import Priority

#: How long a message that is there may be on its way.
_DELIVERY_SECONDS: Final = 1.0


@dataclass(eq=False)
class _Consumer:
    tag: str
    delivered: asyncio.Event = field(default_factory=asyncio.Event)


class RequestQueues:
    """Those of one channel."""

    def __init__(self, channel: Channel, topology: Topology, on_delivery: Callable[[Delivery], None]) -> None:
        self._channel = channel
        self._topology = topology
        self._on_delivery = on_delivery
        self._consumers: dict[Priority, _Consumer] = {}

    @property
    def all_consumed(self) -> bool:
        """Whether no queue holds a message, as far as is known here."""
        return all(self._waits(priority) for priority in PRIORITIES)

    async def consume_one(self, priority: Priority) -> bool:
        """Have one message of that queue delivered, now or when there is one; whether it was delivered now."""
        if self._waits(priority):
            return False
        await self.cancel(priority)
        # The tag is known before the broker answers, so that the consumer can be cancelled whatever happens meanwhile.
        consumer = self._consumers[priority] = _Consumer(str(uuid.uuid4()))

        def on_delivery(delivery: Delivery) -> None:
            consumer.delivered.set()
            self._on_delivery(delivery)

        queue = self._topology.request_queue(priority)
        await self._channel.consume(queue, on_delivery, prefetch=1, consumer_tag=consumer.tag)
        if not consumer.delivered.is_set() and (await self._channel.depth(queue)).messages:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(consumer.delivered.wait(), _DELIVERY_SECONDS)
        return consumer.delivered.is_set()

    async def cancel(self, priority: Priority) -> None:
        """Have nothing delivered of that queue. What was delivered stays to be settled."""
        consumer = self._consumers.pop(priority, None)
        if consumer is not None:
            await self._channel.cancel_consumer(consumer.tag)

    async def cancel_all(self) -> None:
        for priority in PRIORITIES:
            await self.cancel(priority)

    def _waits(self, priority: Priority) -> bool:
        consumer = self._consumers.get(priority)
        return consumer is not None and not consumer.delivered.is_set()
