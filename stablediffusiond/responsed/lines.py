"""Replies as lines of the socket (docs/protocol.md, "The socket")."""

import json
from dataclasses import dataclass
from typing import Final

from pydantic import ValidationError

from stablediffusiond import frames
from stablediffusiond.broker.message import Delivery, Message
from stablediffusiond.messages.replies import ImageFacts, PreviewFacts

Head = dict[str, object]

#: Replies of ours are small; what is nested deeper than Python can go, or longer than readers expect, is none of them.
_MOST_PARTS: Final = 200
_LONGEST_OBJECT_BYTES: Final = 262_144
#: These announce what follows a line; those of a message itself would break the framing.
_FRAMING: Final = {"length", "data"}


@dataclass(frozen=True)
class Line:
    """The object of a line and, for a picture, the bytes that go with it."""

    head: Head
    data: bytes | None = None

    def encode(self, encoding: frames.Encoding = "base64") -> list[bytes]:
        """The pieces to write one after the other."""
        return frames.encode(self.head, self.data, encoding)


def reply(delivery: Delivery, number: int) -> Line:
    """One reply; ``number`` is what the client acks it by.

    A message that is none of ours, on a queue that others may publish to, is passed on as it is.
    """
    message = delivery.message
    head: Head = {"type": message.type or "message", "delivery": number, "redelivered": delivery.redelivered}
    for name in ("message_id", "correlation_id"):
        if (value := getattr(message, name)) is not None:
            head[name] = value
    if message.type == "image":
        return Line({**head, **_facts(message), "content_type": message.content_type}, message.body)
    body = _object(message.body)
    if body is None:
        return Line({**head, "content_type": message.content_type}, message.body)
    return Line({**body, **head})


def event(message: Message) -> Line | None:
    """How far a job is, or what it looks like; None if that cannot be read, or is empty."""
    if message.type == "preview":
        return _preview(message)
    body = _object(message.body)
    return None if body is None else Line({**body, "type": "progress"})


def listening(queue: str) -> Line:
    return Line({"type": "listening", "queue": queue})


def pong() -> Line:
    return Line({"type": "pong"})


def error(code: str, message: str) -> Line:
    return Line({"type": "error", "code": code, "message": message})


def _preview(message: Message) -> Line | None:
    """A preview without a picture was a question to the broker, and not for clients."""
    try:
        facts = PreviewFacts.model_validate(message.headers)
    except ValidationError:
        return None
    head: Head = {"type": "preview", **facts.model_dump(), "content_type": message.content_type}
    return Line(head, message.body) if message.body else None


def _facts(message: Message) -> Head:
    """A picture's facts out of AMQP headers, numbers as numbers; what kind of job it was is ``job_type`` here."""
    try:
        facts = ImageFacts.model_validate({**message.headers, "type": message.headers.get("job_type")})
    except ValidationError:
        return {}
    head: Head = facts.model_dump(exclude_none=True)
    head["job_type"] = head.pop("type")
    return head


def _object(body: bytes) -> Head | None:
    """The JSON object in ``body``; None if that is none, or none that can stand in a line as it is."""
    if len(body) > _LONGEST_OBJECT_BYTES or body.count(b"{") + body.count(b"[") > _MOST_PARTS:
        return None
    try:
        value: object = json.loads(body)
        written = json.dumps(value, ensure_ascii=False, allow_nan=False).encode()  # half a character: an error
    except (ValueError, RecursionError):
        return None
    if len(written) > _LONGEST_OBJECT_BYTES:
        return None
    return value if isinstance(value, dict) and not value.keys() & _FRAMING else None
