"""Publishing that ends only when the broker has the message.

A publish whose confirm never came is in doubt: it is published again with the same ``message_id``, and readers drop
the repeat. pika buffers without limit, so only a few publishes are under way at a time.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterator
from typing import Final

from stablediffusiond.broker.channel import Channel
from stablediffusiond.broker.link import Link
from stablediffusiond.broker.message import Message
from stablediffusiond.broker.publishing_channel import PublishingChannel
from stablediffusiond.broker.topology import depths
from stablediffusiond.broker.unavailable_queues import UnavailableQueue
from stablediffusiond.errors import (
    BrokerError,
    BrokerLost,
    MessageTooLarge,
    NotConfirmed,
    QueueUnavailable,
    Unroutable,
)
from stablediffusiond.histogram import Histogram

log = logging.getLogger(__name__)

_IN_FLIGHT: Final = 4
_SECONDS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 5, 30)
_FIRST_PAUSE_SECONDS: Final = 0.05
_LONGEST_PAUSE_SECONDS: Final = 5.0


class Publisher:
    """Publishes over ``link``, whose connection it should not share with consumers: an alarm stops reading it."""

    def __init__(self, link: Link, on_refusal: Callable[[str | None], None] = lambda _: None) -> None:
        self._channel = PublishingChannel(link, self._on_reconnect)
        self._slots = asyncio.Semaphore(_IN_FLIGHT)
        self._unavailable: dict[str, UnavailableQueue] = {}
        #: Called with the reason when a queue refuses messages, and with None when none does that is not given up.
        self._on_refusal = on_refusal
        self._refusal: str | None = None
        #: From the first try to the confirm; for anybody to look at.
        self.seconds = Histogram(_SECONDS)

    async def publish(
        self,
        message: Message,
        routing_key: str,
        *,
        exchange: str = "",
        mandatory: bool = True,
        patience_seconds: float = math.inf,
    ) -> None:
        """Publish ``message`` and return when the broker has it, however many outages that takes.

        Raises:
            Unroutable: no queue takes it (only if ``mandatory``).
            MessageTooLarge: the broker never will.
            QueueUnavailable: for so long the queue has taken nothing, without being full.
        """
        began = time.monotonic()
        for pause_seconds in _pauses():
            unavailable = self._unavailable.get(routing_key)
            async with self._slots if unavailable is None else unavailable.turn:
                if self._unavailable.get(routing_key) is not unavailable:
                    continue  # it has changed meanwhile, and with it what to wait for
                given_up = unavailable is not None and await self._gives_up(unavailable, routing_key, patience_seconds)
                probed_lately = unavailable is not None and unavailable.was_tried_lately
                if not (given_up and probed_lately) and await self._try(
                    message, exchange, routing_key, mandatory=mandatory
                ):
                    self.seconds.add(time.monotonic() - began)
                    return
                if given_up:
                    raise QueueUnavailable(routing_key)
            await asyncio.sleep(pause_seconds)

    async def _try(self, message: Message, exchange: str, routing_key: str, *, mandatory: bool) -> bool:
        """Publish once; returns whether the broker has the message."""
        shared = routing_key not in self._unavailable
        channel: Channel | None = None
        try:
            channel = await (self._channel.get() if shared else self._channel.another())
            await channel.publish(message, exchange, routing_key, mandatory=mandatory)
        except (Unroutable, MessageTooLarge):
            self._on_taken(routing_key)
            raise
        except NotConfirmed as error:
            self._on_not_taken(routing_key, error)
        except BrokerLost as error:
            log.debug("publishing %s again: %s", message.message_id, error)
        except BrokerError as error:
            if shared:
                self._channel.retire()
            self._on_not_taken(routing_key, error, refusal=str(error))
        else:
            self._on_taken(routing_key)
            return True
        finally:
            if channel is not None and not shared:
                channel.retire()
        return False

    def _on_not_taken(self, routing_key: str, error: BrokerError, refusal: str | None = None) -> None:
        unavailable = self._unavailable.get(routing_key)
        if unavailable is None:
            log.warning("the broker does not take a message for %s: %s; trying on", routing_key, error)
            unavailable = self._unavailable[routing_key] = UnavailableQueue()
        unavailable.not_taken(refusal)
        self._report_refusal()

    def _on_taken(self, routing_key: str) -> None:
        if self._unavailable.pop(routing_key, None) is not None:
            self._report_refusal()

    def _report_refusal(self) -> None:
        waited_for = (queue.refusal for queue in self._unavailable.values() if queue.refusal and not queue.given_up)
        refusal = next(waited_for, None)
        if refusal != self._refusal:
            self._refusal = refusal
            self._on_refusal(refusal)

    async def _gives_up(self, queue: UnavailableQueue, name: str, patience_seconds: float) -> bool:
        """Whether ``queue`` has taken nothing for too long, without being full."""
        if queue.seconds <= patience_seconds:
            return False
        if queue.refusal and await self._holds_messages(name):
            queue.count_from_now()  # there is room again as soon as a message is read
            return False
        queue.given_up = True
        self._report_refusal()
        return True

    async def _holds_messages(self, queue: str) -> bool:
        try:
            found = await depths(await self._channel.connection(), [queue])
        except BrokerLost:
            return True  # we shall see
        return queue in found and found[queue].messages > 0

    def _on_reconnect(self) -> None:
        for queue in self._unavailable.values():
            queue.count_from_now()

    def publish_and_forget(self, message: Message, exchange: str, routing_key: str) -> None:
        """Publish what may be lost, if the broker is there and takes it at this moment."""
        channel = self._channel.usable_now
        if channel is None:
            return
        try:
            channel.publish_and_forget(message, exchange, routing_key)
        except BrokerError as error:
            log.debug("progress lost: %s", error)


def _pauses() -> Iterator[float]:
    pause = _FIRST_PAUSE_SECONDS
    while True:
        yield pause
        pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
