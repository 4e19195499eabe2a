"""What a client publishes: a request, and the cancellation of one."""

import uuid
from datetime import UTC, datetime

from stablediffusiond.broker.message import Message
from stablediffusiond.errors import InvalidRequest
from stablediffusiond.messages.replies import Cancel
from stablediffusiond.messages.request import Request


def to_message(request: Request, reply_to: str | None, most_bytes: int) -> Message:
    """``request`` as it is published, just now.

    Raises:
        InvalidRequest: it has more than ``most_bytes``.
    """
    body = request.to_json()
    if len(body) > most_bytes:
        raise InvalidRequest(f"the request has {len(body)} bytes; at most {most_bytes} are taken", field="image")
    return Message(
        body,
        content_type="application/json",
        message_id=request.id,
        correlation_id=request.id,
        reply_to=reply_to,
        timestamp=datetime.now(UTC),
    )


def cancellation(job_id: str) -> Message:
    body = Cancel(cancel=job_id).model_dump_json().encode()
    return Message(body, content_type="application/json", message_id=str(uuid.uuid4()), persistent=False)
