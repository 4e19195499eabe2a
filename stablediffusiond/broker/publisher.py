"""Publishing that ends only when the broker has the message.

A publish whose confirm never came is in doubt: it is published again with the same ``message_id``, and readers drop
the repeat. pika buffers without limit, so only a few publishes are under way at a time.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from typing import Final

from stablediffusiond.broker.channel import Channel
from stablediffusiond.broker.connection import Connection
from stablediffusiond.broker.link import Link
from stablediffusiond.broker.message import Message
from stablediffusiond.errors import BrokerError, BrokerLost, MessageTooLarge, Unroutable
from stablediffusiond.histogram import Histogram

log = logging.getLogger(__name__)

_IN_FLIGHT: Final = 4
_SECONDS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 5, 30)
_FIRST_PAUSE_SECONDS: Final = 0.05
_LONGEST_PAUSE_SECONDS: Final = 5.0


class Publisher:
    """Publishes over ``link``, whose connection it should not share with consumers: an alarm stops reading it."""

    def __init__(self, link: Link, on_refusal: Callable[[str | None], None] = lambda _: None) -> None:
        self._link = link
        self._slots = asyncio.Semaphore(_IN_FLIGHT)
        self._opening = asyncio.Lock()
        self._open: tuple[Connection, Channel] | None = None
        #: Called with the reason when a queue refuses messages, and with None when it takes them again.
        self._on_refusal = on_refusal
        #: From the first try to the confirm; for anybody to look at.
        self.seconds = Histogram(_SECONDS)

    async def publish(self, message: Message, routing_key: str, *, exchange: str = "", mandatory: bool = True) -> None:
        """Publish ``message`` and return when the broker has it, however many outages that takes.

        Raises:
            Unroutable: no queue takes it (only if ``mandatory``).
            MessageTooLarge: the broker never will.
        """
        async with self._slots:
            began, refused = time.monotonic(), False
            for pause_seconds in _pauses():
                try:
                    channel = await self._channel()
                    await channel.publish(message, exchange, routing_key, mandatory=mandatory)
                except (Unroutable, MessageTooLarge):
                    raise
                except BrokerLost as error:
                    log.debug("publishing %s again: %s", message.message_id, error)
                except BrokerError as error:
                    self._retire()
                    if not refused:
                        log.warning("the broker does not take a message for %s: %s; trying on", routing_key, error)
                        self._on_refusal(str(error))
                    refused = True
                else:
                    self.seconds.add(time.monotonic() - began)
                    if refused:
                        self._on_refusal(None)
                    return
                await asyncio.sleep(pause_seconds)

    def _retire(self) -> None:
        """Have the next try made on another channel.

        A channel that was opened while a cluster still had a dead node for the leader of a queue is refused by RabbitMQ
        3.10 for as long as that node is away, and others are not.
        """
        if self._open is not None:
            self._open[1].retire()
            self._open = None

    def publish_and_forget(self, message: Message, exchange: str, routing_key: str) -> None:
        """Publish what may be lost, if the broker is there and takes it at this moment."""
        if self._open is None:
            return
        connection, channel = self._open
        if connection.accepting.is_set() and not channel.lost.done():
            try:
                channel.publish_and_forget(message, exchange, routing_key)
            except BrokerError as error:
                log.debug("progress lost: %s", error)

    async def _channel(self) -> Channel:
        """The confirming channel of the live connection, opened when there is none."""
        async with self._opening:
            connection = await self._link.connection()
            await connection.accepting.wait()
            if self._open is None or self._open[0] is not connection or self._open[1].lost.done():
                channel = await connection.channel()
                await channel.confirm_publishes()
                self._open = (connection, channel)
            return self._open[1]


def _pauses() -> Iterator[float]:
    pause = _FIRST_PAUSE_SECONDS
    while True:
        yield pause
        pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
