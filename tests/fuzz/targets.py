"""The code that reads untrusted bytes, one function for each way in: each returns, or fails with anything but the errors
that are the answers to bad input.
"""

import io
import json
import struct
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from pika import spec

from stablediffusiond import frames
from stablediffusiond.broker.lenient_decoding import LenientConnection
from stablediffusiond.broker.message import Delivery, Message, from_properties, to_properties
from stablediffusiond.broker.topology import Topology
from stablediffusiond.client.events import from_frame
from stablediffusiond.client.like import request as request_like
from stablediffusiond.engine.catalogue import Catalogue
from stablediffusiond.errors import FramingError, InvalidRequest, JobError, OpError, ResponsesAway, UnreadableMessage
from stablediffusiond.messages.complete_request import CompleteRequest
from stablediffusiond.messages.request import MAX_ID_BYTES, Request
from stablediffusiond.pictures.opening import open_init_image
from stablediffusiond.requestd import reply_messages
from stablediffusiond.requestd.admission import ReplyAddress, accept, address, read, read_request
from stablediffusiond.responsed import lines
from stablediffusiond.settings import LimitSettings, Settings

Target = Callable[[bytes], None]

TOPOLOGY: Final = Topology()
LIMITS: Final = LimitSettings()
MODELS: Final = Catalogue(Settings())
#: A header of an AMQP message travels in one frame.
_FRAME_BYTES: Final = 131_072


class _Settled:
    """A channel that takes every settlement."""

    def ack(self, tag: int) -> None: ...
    def requeue(self, tag: int) -> None: ...


def request(body: bytes) -> None:
    """The way of a request's body from the queue to an order or an answer."""
    admitted(Message(body, message_id="m", reply_to="results.me"))


def _complete(request: Request) -> tuple[CompleteRequest, list[str]]:
    return CompleteRequest.of(request), []


def admitted(message: Message) -> None:
    where = address(message, TOPOLOGY, fallback_id="fallback")
    try:
        fields = read(message, LIMITS)
        where = address(message, TOPOLOGY, fields, where.job_id)
        now = datetime.now(UTC)
        wanted = read_request(message, fields, where, TOPOLOGY, find_model=MODELS.find, priority="normal", received_at=now)
        accept(wanted, _complete, LIMITS)
    except UnreadableMessage as error:
        _answered(where, InvalidRequest(str(error)))
        _carried(reply_messages.dead(message, where.job_id, TOPOLOGY.requests, str(error)))
    except JobError as error:
        _answered(where, error)


def image(data: bytes) -> None:
    """An init image's bytes."""
    try:
        picture = open_init_image(data, 64, 64)
    except JobError as error:
        _answered(ReplyAddress("job", "results", "job"), error)
    else:
        assert (picture.size, picture.mode) == ((64, 64), "RGB")


def properties(encoded: bytes) -> None:
    """The properties of a message as they come over the wire, in a content header frame."""
    payload = struct.pack(">HHQ", 60, 0, 2) + encoded
    data = struct.pack(">BHL", spec.FRAME_HEADER, 1, len(payload)) + payload + bytes([spec.FRAME_END])
    connection = LenientConnection.__new__(LenientConnection)
    connection._frame_buffer = data
    try:
        _, frame = connection._read_frame()
    except (struct.error, IndexError, ValueError):
        return  # no broker would send this: what is outside the table is its own writing
    message = from_properties(frame.properties, b"{}")
    admitted(message)
    _carried(reply_messages.dead(message, "j" * MAX_ID_BYTES, TOPOLOGY.requests, "a reason"))
    reply_line(message)


def reply(body: bytes) -> None:
    """A message that any program has put into a results queue, as a line of the socket."""
    reply_line(Message(body, type="done", message_id="m"))
    event = lines.event(Message(body, type="progress"))
    if event is not None:
        _heard(event)


def reply_line(message: Message) -> None:
    _heard(lines.reply(Delivery(message, "results", tag=1, redelivered=False, channel=_Settled()), 7))


def op(line: bytes) -> None:
    """A line from a client of the socket."""
    try:
        frames.encode_op(frames.parse_op(line))
    except OpError as error:
        frames.encode(lines.error(error.code, str(error)).head)


def frame(stream: bytes) -> None:
    """What a client reads off a socket that may be anybody's."""
    reader = io.BytesIO(stream)
    try:
        while (came := frames.read_frame(reader)) is not None:
            from_frame(came)
    except (FramingError, ResponsesAway):
        pass


def like(data: bytes) -> None:
    """A picture's file whose request somebody wants to have again."""
    try:
        made, warnings = request_like(data, {"id": "mine"})
    except JobError as error:
        assert len(str(error)) < 10_000, "an error is for people to read"
    else:
        assert (made.id, made.count, made.priority) == ("mine", 1, "normal")
        assert sum(map(len, warnings)) < 10_000


TARGETS: Final[dict[str, Target]] = {
    each.__name__: each for each in (request, image, properties, reply, op, frame, like)
}


def _answered(where: ReplyAddress, error: JobError) -> None:
    reply = reply_messages.failed(where, error)
    assert len(reply.body) < 10_000, "an error is for people to read"
    json.loads(reply.body)
    _carried(reply)


def _carried(message: Message) -> None:
    """AMQP can carry it."""
    assert sum(map(len, to_properties(message).encode())) < _FRAME_BYTES


def _heard(line: lines.Line) -> None:
    """A client in binary reads it as one frame, however it was meant."""
    stream = io.BytesIO(b"".join(frames.encode(line.head, line.data, "binary")))
    heard = frames.read_frame(stream)
    assert heard is not None
    assert heard.data == line.data
    assert not stream.read()
