"""The half of a channel that takes messages: consumers, their cancellation, ``basic.get``, and settling."""

import asyncio
from collections.abc import Callable, Collection
from typing import Any, Final

from pika.channel import Channel as PikaChannel
from pika.spec import Basic, BasicProperties

from stablediffusiond.broker.awaitable_channel import AwaitableChannel, settle
from stablediffusiond.broker.message import Delivery, Message, from_properties
from stablediffusiond.errors import QueueMissing

#: As ``reply_to``: the channel that publishes the message gets the answers, without a queue.
#: https://www.rabbitmq.com/docs/direct-reply-to
DIRECT_REPLY_TO: Final = "amq.rabbitmq.reply-to"


class ConsumingChannel(AwaitableChannel):
    """A base of ``Channel``."""

    def __init__(self, channel: PikaChannel) -> None:
        super().__init__(channel)
        self._got: asyncio.Future[Delivery | None] = asyncio.get_running_loop().create_future()
        self._prefetch: int | None = None
        channel.add_callback(lambda _: settle(self._got, None), [Basic.GetEmpty], one_shot=False)
        channel.add_on_cancel_callback(lambda _: self.abandon(QueueMissing("its queue was deleted")))

    async def consume(
        self,
        queue: str,
        on_delivery: Callable[[Delivery], None],
        *,
        prefetch: int,
        consumer_tag: str | None = None,
        priority: int = 0,
    ) -> str:
        """Have ``queue`` delivered, at most ``prefetch`` unsettled at a time; returns the consumer tag.

        Consumers of a higher ``priority`` are delivered to first, as long as their prefetch allows it.
        https://www.rabbitmq.com/docs/consumer-priority
        """
        if prefetch != self._prefetch:  # it counts for the consumers that are made from now on
            await self._call(lambda done: self._channel.basic_qos(prefetch_count=prefetch, callback=done))
            self._prefetch = prefetch
        arguments = {"x-priority": priority} if priority else None

        def deliver(_: PikaChannel, method: Basic.Deliver, properties: BasicProperties, body: bytes) -> None:
            message = from_properties(properties, body)
            on_delivery(Delivery(message, queue, method.delivery_tag or 0, bool(method.redelivered), self))

        frame = await self._call(
            lambda done: self._channel.basic_consume(
                queue, deliver, consumer_tag=consumer_tag, arguments=arguments, callback=done
            )
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

    async def cancel_consumers(self, consumer_tags: Collection[str]) -> None:
        """Have nothing more delivered; what was delivered stays to be settled. One that is not there does not matter.

        The broker may deliver until it has answered, and those messages are passed on as well: pika would reject them,
        which a quorum queue counts as a failed delivery.
        """
        tags = [tag for tag in consumer_tags if tag in self._channel.consumer_tags]
        if not tags:
            return
        await self._barrier()  # pika sends what makes a consumer only when it has an answer to what it sent before
        pika_channel: Any = self._channel
        for tag in tags:
            pika_channel._send_method(Basic.Cancel(consumer_tag=tag, nowait=True))  # noqa: SLF001 (pika has no public way; a test holds it to this)
        await self._barrier()  # nothing comes for them any more
        for tag in tags:
            pika_channel._consumers.pop(tag, None)  # noqa: SLF001 (as above)

    async def _barrier(self) -> None:
        """Return when the broker has done all that it was asked on this channel before."""
        await self._call(lambda done: self._channel.basic_qos(prefetch_count=self._prefetch or 0, callback=done))

    def cancel_exhausted(self, consumer_tag: str) -> None:
        """Cancel a consumer that has as many unsettled messages as its prefetch allows, without waiting.

        What is settled afterwards is settled later at the broker, too, and brings no further message: pika would have a
        cancellation wait for the answers to other methods, and not an ack.
        """
        if self._channel.is_open and consumer_tag in self._channel.consumer_tags:
            pika_channel: Any = self._channel
            del pika_channel._consumers[consumer_tag]  # noqa: SLF001 (as above)
            pika_channel._send_method(Basic.Cancel(consumer_tag=consumer_tag, nowait=True))  # noqa: SLF001 (as above)

    def ack(self, tag: int) -> None:
        if self._channel.is_open:
            self._channel.basic_ack(tag)

    def requeue(self, tag: int) -> None:
        # reject and not nack: 4.3 no longer counts a nack against the delivery limit.
        if self._channel.is_open:
            self._channel.basic_reject(tag, requeue=True)
