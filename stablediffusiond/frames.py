"""The socket's codec: lines of JSON, and raw bytes after a line with a ``length``. Bytes in, values out; no I/O.

What each line means, and when it may come, is docs/protocol.md.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, SecretStr, TypeAdapter, ValidationError

from stablediffusiond.errors import FramingError, OpError, UnknownOp
from stablediffusiond.json_lines import escape_line_ends

#: The longest line a client takes from the daemon: a picture of 12 MiB in base64, and its facts.
MAX_REPLY_LINE_BYTES: Final = 18 * 1024 * 1024

#: Characters of what a wrong line is answered with: it may quote the line.
_LONGEST_REASON: Final = 300
#: Ours have a dozen; each field too many costs pydantic an error of its own.
_MOST_PARTS: Final = 500

Encoding = Literal["base64", "binary"]


class _Op(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Auth(_Op):
    """Show that one may be here: the first line on TCP, where the daemon asks for a token."""

    op: Literal["auth"] = "auth"
    token: Annotated[SecretStr, PlainSerializer(SecretStr.get_secret_value, when_used="json")]


class Listen(_Op):
    """Have a queue delivered on this connection."""

    op: Literal["listen"] = "listen"
    queue: str
    progress: bool = False
    previews: bool = False
    encoding: Encoding = "base64"
    ack: Literal["auto", "manual"] = "auto"
    prefetch: Annotated[int, Field(ge=1)] | None = None


class Ack(_Op):
    """Settle a delivery of a connection with ``"ack": "manual"``."""

    op: Literal["ack"] = "ack"
    delivery: int


class CancelOp(_Op):
    """Cancel a job of any client: ids are not secrets, so make them unguessable."""

    op: Literal["cancel"] = "cancel"
    id: Annotated[str, Field(min_length=1, max_length=200)]


class Ping(_Op):
    """Ask for a ``pong``."""

    op: Literal["ping"] = "ping"


Op = Auth | Listen | Ack | CancelOp | Ping
_OPS: Final[TypeAdapter[Op]] = TypeAdapter(Annotated[Op, Field(discriminator="op")])


def parse_op(line: bytes) -> Op:
    """The operation in one line from a client.

    Raises:
        UnknownOp: it is none of ours.
        OpError: it is, and its content is wrong.
    """
    if sum(line.count(mark) for mark in b"[{:,") > _MOST_PARTS:
        raise UnknownOp("bad_op", f"the line has more than {_MOST_PARTS} parts")
    try:
        return _OPS.validate_json(line)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        op, *fields = first["loc"] or ("",)
        where = ".".join(str(field) for field in fields)
        reason = f"{where}: {first['msg']}" if where else str(first["msg"])
        error_class = OpError if op else UnknownOp
        raise error_class("bad_op", f"{reason[:_LONGEST_REASON]}; known ops: auth, listen, ack, cancel, ping") from None


def encode_op(op: Op) -> bytes:
    return op.model_dump_json(exclude_none=True).encode() + b"\n"


def encode(head: Mapping[str, object], data: bytes | None = None, encoding: Encoding = "base64") -> list[bytes]:
    """One frame to a client, as the pieces to write one after the other.

    ``data`` goes into the line in base64, or behind it with its ``length`` in the line.
    """
    if data is None:
        return [_line(head)]
    if encoding == "binary":
        return [_line({**head, "length": len(data)}), data]
    line = _line({**head, "data": ""})
    # Pasted in, since a JSON encoder would look at each of its millions of characters for one to escape.
    return [line[:-3], base64.b64encode(data), line[-3:]]


def _line(head: Mapping[str, object]) -> bytes:
    return escape_line_ends(json.dumps(head, ensure_ascii=False, separators=(",", ":"))).encode() + b"\n"


class Reader(Protocol):
    """What ``read_frame`` reads from: a blocking file such as ``socket.makefile("rb")``."""

    def readline(self, limit: int, /) -> bytes: ...
    def read(self, length: int, /) -> bytes: ...


class AsyncReader(Protocol):
    """What ``read_frame_async`` reads from: an ``asyncio.StreamReader`` with ``MAX_REPLY_LINE_BYTES`` as its limit."""

    async def readline(self) -> bytes: ...
    async def readexactly(self, n: int, /) -> bytes: ...


@dataclass(frozen=True)
class Frame:
    """One frame from the daemon: the line's object, and the bytes that came in or after it."""

    head: Mapping[str, object]
    data: bytes | None


def read_frame(reader: Reader) -> Frame | None:
    """The next frame, or None at the end of the stream.

    Raises:
        FramingError: the stream ends inside a frame, or is not this protocol.
    """
    line = reader.readline(MAX_REPLY_LINE_BYTES)
    if not line:
        return None
    frame, length = _parse_line(line)
    if length is None:
        return frame
    data = reader.read(length)
    if len(data) != length:
        raise FramingError("the stream ended inside a picture")
    return Frame(frame.head, data)


async def read_frame_async(reader: AsyncReader) -> Frame | None:
    """As ``read_frame``, from a stream of asyncio.

    Raises:
        FramingError: the stream ends inside a frame, or is not this protocol.
    """
    try:
        line = await reader.readline()
    except ValueError:  # asyncio's, for what is longer than its limit
        raise FramingError("the line is too long") from None
    if not line:
        return None
    frame, length = _parse_line(line)
    if length is None:
        return frame
    try:
        return Frame(frame.head, await reader.readexactly(length))
    except EOFError:
        raise FramingError("the stream ended inside a picture") from None


def _parse_line(line: bytes) -> tuple[Frame, int | None]:
    """The frame that begins with ``line``, and how many bytes follow it; None if none do."""
    if not line.endswith(b"\n"):
        raise FramingError("the stream ended inside a line, or the line is too long")
    try:
        head: object = json.loads(line)
    except (ValueError, RecursionError):
        raise FramingError(f"a line that is not JSON: {line[:80]!r}") from None
    if not isinstance(head, dict):
        raise FramingError(f"a line that is no object: {line[:80]!r}")
    length, encoded = head.pop("length", None), head.pop("data", None)
    if isinstance(length, int):
        if not 0 <= length <= MAX_REPLY_LINE_BYTES:
            raise FramingError(f"a picture of {length} bytes")
        return Frame(head, None), length
    try:
        return Frame(head, base64.b64decode(encoded) if isinstance(encoded, str) else None), None
    except ValueError:
        raise FramingError("a picture that is not base64") from None
