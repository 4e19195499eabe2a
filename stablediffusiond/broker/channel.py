"""One AMQP channel: declaring queues, publishing with confirms, and what ``consuming_channel`` adds.

How an answer of the broker is awaited, and how a channel ends, stands in ``awaitable_channel``.
"""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from pika import exceptions
from pika.channel import Channel as PikaChannel
from pika.frame import Method
from pika.spec import Basic, BasicProperties

from stablediffusiond.broker.confirms import Confirms
from stablediffusiond.broker.consuming_channel import ConsumingChannel
from stablediffusiond.broker.message import Message, to_properties
from stablediffusiond.errors import BrokerError, BrokerLost, NotConfirmed

_CONFIRM_SECONDS: Final = 10.0
_SLOWEST_BYTES_A_SECOND: Final = 20_000


@dataclass(frozen=True)
class Depth:
    """How full a queue is, and how many read it."""

    messages: int
    consumers: int


class Channel(ConsumingChannel):
    """Made by ``Connection.channel``."""

    def __init__(self, channel: PikaChannel) -> None:
        super().__init__(channel)
        self._confirms = Confirms()
        self._retired = False

    # Topology

    async def declare_queue(self, name: str, arguments: Mapping[str, str | int]) -> None:
        """Raises QueueMismatch or BrokerRefused, which both end this channel."""
        await self._call(
            lambda done: self._channel.queue_declare(name, durable=True, arguments=arguments, callback=done)
        )

    async def check_queue(self, name: str) -> int:
        """How many messages wait in the queue ``name``. Raises QueueMissing, which ends this channel."""
        return (await self.depth(name)).messages

    async def depth(self, name: str) -> Depth:
        """Raises QueueMissing or BrokerRefused, which both end this channel."""
        frame = await self._call(lambda done: self._channel.queue_declare(name, passive=True, callback=done))
        return Depth(frame.method.message_count, frame.method.consumer_count)

    async def delete_queue(self, name: str) -> None:
        """Delete the queue ``name`` and what it holds. Raises BrokerRefused, which ends this channel."""
        await self._call(lambda done: self._channel.queue_delete(name, callback=done))

    async def declare_exchange(self, name: str, kind: str) -> None:
        await self._call(
            lambda done: self._channel.exchange_declare(name, exchange_type=kind, durable=True, callback=done)
        )

    async def bind_private_queue(self, exchange: str, routing_keys: Iterable[str], max_length: int) -> str:
        """A queue that ends with this connection, bound to ``exchange`` by each of ``routing_keys``; returns its name.

        Without a reader, the oldest of ``max_length`` messages is dropped for the newest.
        """
        arguments = {"x-max-length": max_length}
        frame = await self._call(
            lambda done: self._channel.queue_declare("", exclusive=True, arguments=arguments, callback=done)
        )
        name: str = frame.method.queue
        for key in routing_keys:
            await self.bind_queue(name, exchange, key)
        return name

    async def bind_queue(self, queue: str, exchange: str, routing_key: str) -> None:
        """Raises QueueMissing or BrokerRefused, which both end this channel."""
        await self._call(lambda done: self._channel.queue_bind(queue, exchange, routing_key, callback=done))

    # Publishing

    async def confirm_publishes(self) -> None:
        """Have the broker confirm every publish on this channel. Once a channel."""
        self._channel.add_on_return_callback(self._on_return)
        await self._call(lambda done: self._channel.confirm_delivery(self._on_confirm, callback=done))

    async def publish(self, message: Message, exchange: str, routing_key: str, *, mandatory: bool = True) -> None:
        """Publish, and return when the broker has taken charge of ``message``.

        A quorum queue that is published to while it recovers from a crash may never confirm (seen on RabbitMQ 3.10). So
        a confirm is waited for so long, the size of the message allowed for; then this channel is of no use any more.

        Raises:
            Unroutable: no queue takes it (only if ``mandatory``).
            MessageTooLarge: the broker will never take it.
            Nacked: the broker does not want it now.
            NotConfirmed: no answer came.
            BrokerError: the channel ended first; whether the message arrived is in doubt.
        """
        self._send(message, exchange, routing_key, mandatory=mandatory)
        confirmed = self._confirms.expect(message, routing_key)
        patience_seconds = _CONFIRM_SECONDS + len(message.body) / _SLOWEST_BYTES_A_SECOND
        try:
            async with asyncio.timeout(patience_seconds):
                await confirmed
        except TimeoutError:
            reason = f"no confirm for {patience_seconds:.0f} s"
            self.abandon(BrokerLost(reason))  # the others on it have done nothing wrong
            raise NotConfirmed(reason) from None

    def publish_and_forget(self, message: Message, exchange: str, routing_key: str) -> None:
        """Publish what may be lost."""
        self._send(message, exchange, routing_key, mandatory=False)

    def retire(self) -> None:
        """Close as soon as nothing that was published here waits for its confirm."""
        self._retired = True
        self._close_if_retired()

    def _send(self, message: Message, exchange: str, routing_key: str, *, mandatory: bool) -> None:
        try:
            self._channel.basic_publish(exchange, routing_key, message.body, to_properties(message), mandatory)
        except (exceptions.ChannelWrongStateError, exceptions.AMQPConnectionError) as error:
            raise BrokerLost(str(error) or type(error).__name__) from None
        except exceptions.AMQPError as error:
            raise ValueError(f"AMQP cannot carry {message}: {type(error).__name__}") from error
        self._confirms.count()

    def _on_return(self, _: PikaChannel, method: Basic.Return, properties: BasicProperties, __: bytes) -> None:
        self._confirms.on_return(properties.message_id, method.routing_key or "")

    def _on_confirm(self, frame: "Method[Basic.Ack | Basic.Nack]") -> None:
        self._confirms.on_confirm(frame)
        self._close_if_retired()

    def _close_if_retired(self) -> None:
        if self._retired and not len(self._confirms):
            self.abandon(BrokerLost("closed by us"))

    def _on_too_large(self, most: int) -> None:
        self._confirms.refuse_larger_than(most)

    def _fail(self, reason: BrokerError) -> None:
        super()._fail(reason)
        self._confirms.fail(reason)
