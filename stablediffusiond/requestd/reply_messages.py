"""The replies to a job as AMQP messages (docs/protocol.md, "Replies")."""

from datetime import UTC, datetime
from typing import Final

from pydantic import BaseModel

from stablediffusiond import __version__
from stablediffusiond.broker.message import HeaderValue, Message
from stablediffusiond.errors import JobError
from stablediffusiond.messages.replies import Done, Failed, ImageFacts, PreviewFacts, Progress, ReplyType
from stablediffusiond.messages.status import WorkerStatus
from stablediffusiond.requestd.admission import ReplyAddress

#: All headers have to fit into one AMQP frame of 128 KiB, with those that are added to what its sender put there. As
#: Python shows them they are never shorter than on the wire.
_MOST_FOREIGN_BYTES: Final = 100_000
#: A request may have thousands of fields that are ignored, and readers of the socket have a longest line.
_MOST_WARNING_CHARACTERS: Final = 8_000


def image(where: ReplyAddress, facts: ImageFacts, data: bytes, content_type: str) -> Message:
    """One picture; its facts are the headers, where ``type`` is called ``job_type`` beside the reply's own type."""
    headers: dict[str, HeaderValue] = facts.model_dump(exclude_none=True)
    headers["job_type"] = headers.pop("type")
    return Message(
        body=data,
        content_type=content_type,
        type="image",
        message_id=f"{where.job_id}/{facts.index}",
        correlation_id=where.correlation_id,
        timestamp=datetime.now(UTC),
        headers=headers,
    )


def done(where: ReplyAddress, reply: Done) -> Message:
    return _json(where, "done", reply.model_copy(update={"warnings": _shortened(reply.warnings)}))


def failed(where: ReplyAddress, error: JobError) -> Message:
    return _json(where, "failed", Failed.of(where.job_id, error))


def progress(where: ReplyAddress, step: int, steps: int) -> Message:
    return _json(where, "progress", Progress(id=where.job_id, step=step, steps=steps), persistent=False)


def preview(where: ReplyAddress, facts: PreviewFacts, jpeg: bytes) -> Message:
    """What an image looks like so far; no bytes at all ask whether anybody wants to know."""
    return Message(
        body=jpeg,
        content_type="image/jpeg",
        type="preview",
        message_id=f"{where.job_id}/preview",
        correlation_id=where.correlation_id,
        timestamp=datetime.now(UTC),
        headers=facts.model_dump(),
        persistent=False,
    )


def status(correlation_id: str | None, worker: WorkerStatus) -> Message:
    """How this daemon is; of no use to anybody a moment later."""
    return Message(
        body=worker.model_dump_json(exclude_none=True).encode(),
        content_type="application/json",
        type="status",
        correlation_id=correlation_id,
        timestamp=datetime.now(UTC),
        persistent=False,
    )


def unroutable(reply: Message, routing_key: str) -> Message:
    """``reply`` for the queue of those that nobody takes, with where it was going."""
    return _with_headers(reply, {"x-original-routing-key": routing_key})


def dead(request: Message, job_id: str, came_from: str, reason: str) -> Message:
    """``request`` for the queue of those that an operator should see, with all that is needed to try it again."""
    headers: dict[str, HeaderValue] = {
        "x-job-id": job_id,
        "x-original-routing-key": came_from,
        "x-dead-reason": reason,
        "x-dead-at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return _with_headers(request, headers)


def _json(where: ReplyAddress, kind: ReplyType, reply: BaseModel, *, persistent: bool = True) -> Message:
    return Message(
        body=reply.model_dump_json(exclude_none=True).encode(),
        content_type="application/json",
        type=kind,
        message_id=f"{where.job_id}/{kind}",
        correlation_id=where.correlation_id,
        timestamp=datetime.now(UTC),
        headers={"x-daemon-version": __version__},
        persistent=persistent,
    )


def _shortened(warnings: list[str]) -> list[str]:
    """The first of them, and how many more there are."""
    kept: list[str] = []
    left = _MOST_WARNING_CHARACTERS
    for warning in warnings:
        if len(warning) > left:
            return [*kept, f"{warning[:left]}… and {len(warnings) - len(kept) - 1} warnings more"]
        kept.append(warning)
        left -= len(warning)
    return kept


def _with_headers(message: Message, headers: dict[str, HeaderValue]) -> Message:
    kept = {name: value for name, value in message.headers.items() if not name.startswith("x-")}
    if len(repr(kept).encode(errors="replace")) > _MOST_FOREIGN_BYTES:
        kept = {}
    return Message(
        body=message.body,
        content_type=message.content_type,
        type=message.type,
        message_id=message.message_id,
        correlation_id=message.correlation_id,
        reply_to=message.reply_to,
        timestamp=message.timestamp,
        headers={**kept, **headers},
    )
