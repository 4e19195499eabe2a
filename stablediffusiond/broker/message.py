"""A message and its delivery, free of pika's types."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final, Protocol

import pika

#: What an AMQP table holds; ``Any`` stands for its nested tables and lists, which only pass through.
HeaderValue = Any

#: On a job that was set aside (``job_forwarding.py``): the queue that it was delivered from before.
SET_ASIDE: Final = "x-set-aside-from"


@dataclass(frozen=True)
class Message:
    """A body and the properties that this project uses."""

    body: bytes = field(repr=False)
    content_type: str | None = None
    type: str | None = None
    message_id: str | None = None
    correlation_id: str | None = None
    reply_to: str | None = None
    timestamp: datetime | None = None  #: whole seconds on the wire
    headers: Mapping[str, HeaderValue] = field(default_factory=dict)
    persistent: bool = True


class Settling(Protocol):
    """What a delivery needs of the channel it came on."""

    def ack(self, tag: int) -> None: ...
    def requeue(self, tag: int) -> None: ...


@dataclass(frozen=True)
class Delivery:
    """A message that the broker holds until it is settled on the channel that brought it."""

    message: Message
    queue: str
    tag: int
    redelivered: bool
    channel: Settling = field(repr=False)

    @property
    def earlier_deliveries(self) -> int:
        """How often a consumer has had this message and lost it; only quorum queues count beyond one."""
        count = self.message.headers.get("x-delivery-count", 0)
        return max(count if isinstance(count, int) else 0, int(self.redelivered))

    @property
    def suspect(self) -> bool:
        """Whether a consumer may have died of this message."""
        return self.earlier_deliveries > 0 or SET_ASIDE in self.message.headers

    def ack(self) -> None:
        """Take the message off the queue. On a channel that is gone: nothing, the message comes again."""
        self.channel.ack(self.tag)

    def requeue(self) -> None:
        """Give the message back; it counts as one more delivery."""
        self.channel.requeue(self.tag)


def to_properties(message: Message) -> pika.BasicProperties:
    return pika.BasicProperties(
        content_type=message.content_type,
        type=message.type,
        message_id=message.message_id,
        correlation_id=message.correlation_id,
        reply_to=message.reply_to,
        timestamp=int(message.timestamp.timestamp()) if message.timestamp else None,
        headers={name: _plain(value) for name, value in message.headers.items()},
        delivery_mode=2 if message.persistent else 1,
    )


def _plain(value: HeaderValue) -> HeaderValue:
    """Fractions travel as text: pika has no floating-point numbers, and AMQP's decimals puzzle other libraries. So do
    numbers that AMQP has no room for: pika reads a foreign fraction, of whatever size, as an integer.
    """
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return str(value)
    return str(value) if isinstance(value, float | Decimal) else value


def from_properties(properties: pika.BasicProperties, body: bytes) -> Message:
    stamp = properties.timestamp
    return Message(
        body=body,
        content_type=_text(properties.content_type),
        type=_text(properties.type),
        message_id=_text(properties.message_id),
        correlation_id=_text(properties.correlation_id),
        reply_to=_text(properties.reply_to),
        timestamp=_moment(stamp) if isinstance(stamp, int) else None,
        headers={_text(name) or "": value for name, value in (properties.headers or {}).items()},
        persistent=properties.delivery_mode == 2,
    )


def _text(value: str | bytes | None) -> str | None:
    """pika hands out bytes for what is no UTF-8; a name that is none fits no queue and no job, and is only shown.

    What is put in place of a byte is no longer than it: a name may have 255, and goes back with the answer.
    """
    return value.decode(errors="replace").replace("\ufffd", "?") if isinstance(value, bytes) else value


def _moment(stamp: int) -> datetime | None:
    """The moment of a POSIX ``stamp``; a foreign one that is none (milliseconds, say) counts as absent."""
    try:
        return datetime.fromtimestamp(stamp, UTC)
    except (ValueError, OverflowError, OSError):
        return None
