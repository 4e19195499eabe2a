"""One AMQP channel: declaring queues, consuming, publishing with confirms. Every method can be awaited.

How an answer of the broker is awaited, and how a channel ends, stands in ``awaitable_channel``.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pika import exceptions
from pika.channel import Channel as PikaChannel
from pika.frame import Method
from pika.spec import Basic, BasicProperties

from stablediffusiond.broker.awaitable_channel import AwaitableChannel, settle
from stablediffusiond.broker.confirms import Confirms
from stablediffusiond.broker.message import Delivery, Message, from_properties, to_properties
from stablediffusiond.errors import (
    BrokerError,
    BrokerLost,
    NotConfirmed,
    QueueMissing,
)

_CONFIRM_SECONDS: Final = 10.0
_SLOWEST_BYTES_A_SECOND: Final = 20_000

#: As ``reply_to``: the channel that publishes the message gets the answers, without a queue.
#: https://www.rabbitmq.com/docs/direct-reply-to
DIRECT_REPLY_TO: Final = "amq.rabbitmq.reply-to"


@dataclass(frozen=True)
class Depth:
    """How full a queue is, and how many read it."""

    messages: int
    consumers: int


class Channel(AwaitableChannel):
    """Made by ``Connection.channel``."""

    def __init__(self, channel: PikaChannel) -> None:
        super().__init__(channel)
        self._confirms = Confirms()
        self._retired = False
        self._got: asyncio.Future[Delivery | None] = asyncio.get_running_loop().create_future()
        channel.add_callback(lambda _: settle(self._got, None), [Basic.GetEmpty], one_shot=False)
        channel.add_on_cancel_callback(lambda _: self.abandon(QueueMissing("its queue was deleted")))

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

        When nobody reads, the oldest of ``max_length`` messages makes room for the newest.
        """
        arguments = {"x-max-length": max_length}
        frame = await self._call(
            lambda done: self._channel.queue_declare("", exclusive=True, arguments=arguments, callback=done)
        )
        name: str = frame.method.queue
        for key in routing_keys:
            await self._bind(name, exchange, key)
        return name

    async def _bind(self, queue: str, exchange: str, routing_key: str) -> None:
        await self._call(lambda done: self._channel.queue_bind(queue, exchange, routing_key, callback=done))

    # Consuming

    async def consume(
        self, queue: str, on_delivery: Callable[[Delivery], None], *, prefetch: int, consumer_tag: str | None = None
    ) -> str:
        """Have ``queue`` delivered, at most ``prefetch`` unsettled at a time; returns the consumer tag."""
        await self._call(lambda done: self._channel.basic_qos(prefetch_count=prefetch, callback=done))

        def deliver(_: PikaChannel, method: Basic.Deliver, properties: BasicProperties, body: bytes) -> None:
            message = from_properties(properties, body)
            on_delivery(Delivery(message, queue, method.delivery_tag or 0, bool(method.redelivered), self))

        frame = await self._call(
            lambda done: self._channel.basic_consume(queue, deliver, consumer_tag=consumer_tag, callback=done)
        )
        tag: str = frame.method.consumer_tag
        return tag

    async def consume_answers(self, on_answer: Callable[[Message], None]) -> None:
        """Have the answers to what is published here with ``DIRECT_REPLY_TO`` delivered; they may be lost."""

        def deliver(_: PikaChannel, __: Basic.Deliver, properties: BasicProperties, body: bytes) -> None:
            on_answer(from_properties(properties, body))

        await self._call(
            lambda done: self._channel.basic_consume(DIRECT_REPLY_TO, deliver, auto_ack=True, callback=done)
        )

    async def get(self, queue: str) -> Delivery | None:
        """The message at the head of ``queue``, or None if it is empty. One call at a time on a channel.

        If the caller is cancelled meanwhile, the message goes back to its queue.
        """
        answer = self._got = asyncio.get_running_loop().create_future()

        def deliver(_: PikaChannel, method: Basic.GetOk, properties: BasicProperties, body: bytes) -> None:
            message = from_properties(properties, body)
            delivery = Delivery(message, queue, method.delivery_tag or 0, bool(method.redelivered), self)
            if answer.done():
                delivery.requeue()
            else:
                answer.set_result(delivery)

        return await self._await(answer, lambda: self._channel.basic_get(queue, deliver))

    async def cancel_consumer(self, consumer_tag: str) -> None:
        """Have nothing more delivered; what was delivered stays to be settled. One that is not there does not matter.

        The broker may deliver until it has answered, and those messages are passed on as well: pika would reject them,
        which a quorum queue counts as a failed delivery.
        """

        def cancel(done: Callable[[object], None]) -> None:
            pika_channel: Any = self._channel
            pika_channel.basic_cancel(consumer_tag, callback=done)
            pika_channel._cancelled.discard(consumer_tag)  # noqa: SLF001 (pika has no public way; a test holds it to this)

        if consumer_tag in self._channel.consumer_tags:
            await self._call(cancel)

    def ack(self, tag: int) -> None:
        if self._channel.is_open:
            self._channel.basic_ack(tag)

    def requeue(self, tag: int) -> None:
        # reject and not nack: 4.3 no longer counts a nack against the delivery limit.
        if self._channel.is_open:
            self._channel.basic_reject(tag, requeue=True)

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
            NotConfirmed: it says nothing.
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
