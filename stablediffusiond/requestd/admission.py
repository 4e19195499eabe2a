"""From a message to a request that this service is willing to draw."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from stablediffusiond.broker.message import Message
from stablediffusiond.broker.topology import Topology
from stablediffusiond.errors import InvalidRequest, TooLarge
from stablediffusiond.messages.body import parse
from stablediffusiond.messages.complete_request import CompleteRequest
from stablediffusiond.messages.request import MAX_ID_BYTES, Priority, Request
from stablediffusiond.messages.values import Body
from stablediffusiond.settings import LimitSettings

#: Chooses what a request leaves open; and the warnings about what the model has no use for.
Completion = Callable[[Request], tuple[CompleteRequest, list[str]]]


@dataclass(frozen=True)
class ReplyAddress:
    """Where the replies to a message go, and what they carry; readable even where the message itself is not."""

    job_id: str
    reply_to: str
    correlation_id: str


@dataclass(frozen=True)
class ReadRequest:
    """A request as its client wrote it."""

    request: Request  #: ``model`` is the name of one that is drawn with here
    address: ReplyAddress
    warnings: list[str]
    published_at: datetime | None
    deadline: float | None  #: by time.monotonic: from here on nobody asks a clock that may be set


@dataclass(frozen=True)
class AcceptedRequest(ReadRequest):
    """A request as it is drawn."""

    request: CompleteRequest


def address(message: Message, topology: Topology, fields: Body | None = None, fallback_id: str = "") -> ReplyAddress:
    """The address of ``message``; replies that nobody may receive where they were asked for go to ``results``."""
    said = (fields or {}).get("id")
    job_id = str(said if isinstance(said, str | int) and said != "" else message.message_id or fallback_id)
    job_id = job_id.encode()[:MAX_ID_BYTES].decode(errors="ignore")
    reply_to = message.reply_to if message.reply_to and topology.may_reply_to(message.reply_to) else topology.results
    return ReplyAddress(job_id, reply_to, message.correlation_id or job_id)


def read_request(
    message: Message,
    fields: Body,
    where: ReplyAddress,
    topology: Topology,
    *,
    find_model: Callable[[str | None], str],
    priority: Priority,
    received_at: datetime,
) -> ReadRequest:
    """The request in ``message``, whose JSON object is ``fields``; its ``priority`` is that of the queue it came from.

    ``find_model`` gives the name of the model that a request means.

    How long it has waited already is the difference of two clocks, the publisher's and ours at ``received_at``. After
    that our clock may be set as anybody likes.

    Raises:
        InvalidRequest: it says something that cannot be drawn.
    """
    if message.reply_to and not topology.may_reply_to(message.reply_to):
        raise InvalidRequest(f"reply_to must not begin with {topology.requests!r}", field="reply_to")
    request, warnings = Request.from_fields(fields, default_id=where.job_id)
    request = request.model_copy(update={"priority": priority, "model": find_model(request.model)})
    deadline = None
    if request.deadline_seconds is not None:
        waited = (received_at - (message.timestamp or received_at)).total_seconds()
        deadline = time.monotonic() + request.deadline_seconds - max(0.0, waited)
    return ReadRequest(request, where, warnings, message.timestamp, deadline)


def accept(read: ReadRequest, complete: Completion, limits: LimitSettings) -> AcceptedRequest:
    """``read`` with what it leaves to its model chosen by ``complete``.

    Raises:
        InvalidRequest: its model cannot draw it.
        TooLarge: it asks for more than this service gives.
    """
    completed, unused = complete(read.request)
    if read.request.steps is None and completed.steps > limits.max_steps:
        completed = completed.model_copy(update={"steps": limits.max_steps})
    _check_limits(completed, limits)
    warnings = [*read.warnings, *unused]
    return AcceptedRequest(completed, read.address, warnings, read.published_at, read.deadline)


def read(message: Message, limits: LimitSettings) -> Body:
    """The JSON object of ``message``.

    Raises:
        TooLarge: the body is over the limit.
        UnreadableMessage: it is poison.
    """
    if len(message.body) > limits.max_request_bytes:
        raise TooLarge(f"the request has {len(message.body)} bytes; at most {limits.max_request_bytes} are taken")
    return parse(message.body)


def check_size(request: Request, size: tuple[int, int], limits: LimitSettings) -> None:
    """Raise TooLarge for a picture of this ``size``, if any of it was asked for; the model's own always fits."""
    width, height = size
    if (request.width or request.height) and width * height > limits.max_pixels:
        field = "width" if request.width else "height"
        said = f"{width}x{height} are too many pixels; at most {limits.max_pixels} are drawn"
        raise TooLarge(said, field=field)


def _check_limits(request: CompleteRequest, limits: LimitSettings) -> None:
    if request.steps > limits.max_steps:
        raise InvalidRequest(f"'steps' must be at most {limits.max_steps}, not {request.steps}", field="steps")
    if (loras := len(request.chosen_loras())) > limits.max_loras:
        said = f"there must be at most {limits.max_loras} LoRAs in a request, not {loras}"
        raise InvalidRequest(said, field="loras")
    if len(request.control) > limits.max_controls:
        said = f"there must be at most {limits.max_controls} ControlNets in a request, not {len(request.control)}"
        raise InvalidRequest(said, field="control")
    if (adapters := len(request.ip_adapter)) > limits.max_ip_adapters:
        said = f"there must be at most {limits.max_ip_adapters} IP-Adapters in a request, not {adapters}"
        raise InvalidRequest(said, field="ip_adapter")
    if request.count > limits.max_images:
        raise TooLarge(f"'count' must be at most {limits.max_images}, not {request.count}", field="count")
    if request.width and request.height:
        check_size(request, (request.width, request.height), limits)
    if request.hires is not None and (request.hires.steps or 0) > limits.max_steps:
        said = f"'steps' of 'hires' must be at most {limits.max_steps}, not {request.hires.steps}"
        raise InvalidRequest(said, field="hires")
    if request.second_size is not None and math.prod(request.second_size) > limits.max_pixels:
        size = "{}x{}".format(*request.second_size)
        said = f"{size} are too many pixels for 'hires'; at most {limits.max_pixels} are drawn"
        raise TooLarge(said, field="hires")
