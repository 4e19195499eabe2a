"""Dead letters, kept for an operator: requests that cannot be drawn, and replies whose queue was gone.

A message is only ever taken off its queue by an ack, after it is safe elsewhere or is to be dropped. What was looked at
goes back when the channel is closed, to where it was. A quorum queue counts that as a failed delivery, and RabbitMQ
drops a message that has had more than twenty (from 4.0 on); so one that was looked at often is put into its queue anew,
at the end, and only then taken off: the copy has not been delivered yet.
"""

import contextlib
import hashlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final

from stablediffusiond.broker.channel import Channel
from stablediffusiond.broker.connection import Connection
from stablediffusiond.broker.message import Delivery, Message
from stablediffusiond.broker.topology import Topology
from stablediffusiond.errors import BrokerRefused, QueueMissing
from stablediffusiond.messages.dead_letter import DeadLetterFacts
from stablediffusiond.settings import Settings

_NAME: Final = "stablediffusion_client dead"
#: Far enough from the twenty that a message may be given back.
_LOOKED_AT_OFTEN: Final = 10
_ID_DIGITS: Final = 12
_CLOSE_SECONDS: Final = 1.0


@dataclass(frozen=True)
class DeadLetter:
    """One message that was put aside."""

    facts: DeadLetterFacts
    message: Message = field(repr=False)
    delivery: Delivery = field(repr=False)


class DeadLetterQueue:
    """One of the queues of what was put aside; made by ``opened``."""

    def __init__(self, channel: Channel, queue: str, topology: Topology) -> None:
        self._channel = channel
        self._queue = queue
        self._topology = topology

    async def each(self, visit: Callable[[DeadLetter], bool]) -> AsyncIterator[DeadLetter]:
        """Those messages that ``visit`` is true of, from the oldest; each stays where it is until it is taken."""
        here = await self._channel.check_queue(self._queue)
        for _ in range(max(1, here)):  # who may not read it is to be told so, also while it is empty
            if (delivery := await self._channel.get(self._queue)) is None:
                return
            dead_letter = self._dead_letter(delivery)
            if visit(dead_letter):
                yield dead_letter
            else:
                await self._leave(delivery)

    async def leave(self, dead_letter: DeadLetter) -> None:
        """It was looked at, and stays."""
        await self._leave(dead_letter.delivery)

    async def retry(self, dead_letter: DeadLetter) -> str:
        """Publish it to where it was going, as new; returns that queue's name.

        Raises:
            QueueMissing: it names no queue, or there is no such queue; it stays.
            BrokerError: whether it was published is in doubt; it stays.
        """
        queue = dead_letter.facts.was_for
        if queue is None:
            raise QueueMissing(f"{dead_letter.facts.id} does not name the queue that it was for")
        await self._channel.publish(_as_new(dead_letter, is_reply=self._queue == self._topology.unroutable), "", queue)
        dead_letter.delivery.ack()
        return queue

    def drop(self, dead_letter: DeadLetter) -> None:
        """Delete it from the queue."""
        dead_letter.delivery.ack()

    async def _leave(self, delivery: Delivery) -> None:
        if delivery.earlier_deliveries >= _LOOKED_AT_OFTEN:
            await self._channel.publish(_uncounted(delivery.message), "", self._queue)
            delivery.ack()

    def _dead_letter(self, delivery: Delivery) -> DeadLetter:
        message, headers = delivery.message, delivery.message.headers
        default = self._topology.requests if self._queue == self._topology.dead else headers.get("x-first-death-queue")
        stamp = headers.get("x-dead-at") or (message.timestamp.isoformat() if message.timestamp else None)
        facts = DeadLetterFacts(
            id=str(headers.get("x-job-id") or message.message_id or _fingerprint(message)),
            reason=_text(headers.get("x-dead-reason")),
            kept_at=_text(stamp),
            was_for=_text(headers.get("x-original-routing-key") or default),
            type=message.type,
            content_type=message.content_type,
            reply_to=message.reply_to,
            body_bytes=len(message.body),
        )
        return DeadLetter(facts, message, delivery)


@contextlib.asynccontextmanager
async def opened(settings: Settings, *, unroutable: bool = False) -> AsyncIterator[DeadLetterQueue]:
    """The queue of dead requests, or that of replies that no queue would take.

    Raises:
        BrokerRefused: it is not for this user to read.
        BrokerError: the broker cannot be reached, or has no such queue.
    """
    topology = Topology(settings.queues.requests, settings.queues.results)
    connection = await Connection.open(settings.broker, _NAME)
    try:
        channel = await connection.channel()
        await channel.confirm_publishes()
        yield DeadLetterQueue(channel, topology.unroutable if unroutable else topology.dead, topology)
    except BrokerRefused as error:
        with_sudo = f"with sudo {_NAME} goes by {settings.broker.operator_url_file}"
        raise BrokerRefused(f"{error}; this is for operators: {with_sudo} ([broker] operator_url_file)") from None
    finally:
        await connection.close(_CLOSE_SECONDS)  # which gives back what was not taken


def _as_new(dead_letter: DeadLetter, *, is_reply: bool) -> Message:
    """The message as it was before it was put aside; a request counts as published now."""
    message = dead_letter.message
    headers = {name: value for name, value in message.headers.items() if not name.startswith("x-")}
    if is_reply:
        return replace(message, headers=headers)
    return replace(
        message, headers=headers, message_id=message.message_id or dead_letter.facts.id, timestamp=datetime.now(UTC)
    )


def _uncounted(message: Message) -> Message:
    counts = ("x-delivery-count", "x-acquired-count")
    return replace(message, headers={name: value for name, value in message.headers.items() if name not in counts})


def _fingerprint(message: Message) -> str:
    """A name for a message that has none, the same whenever it is looked at."""
    content = repr((message.timestamp, message.correlation_id, message.reply_to)).encode() + message.body
    return hashlib.sha256(content).hexdigest()[:_ID_DIGITS]


def _text(value: object) -> str | None:
    return None if value is None else str(value)
