"""A message that pika cannot decode costs that message its headers, and not us the connection.

RabbitMQ passes on whatever an AMQP table may hold; pika stumbles over a fraction that is no number, a moment after the
year 9999 or tables a thousand deep, and what it stumbles over ends the connection. The broker would give such a message
out again and again, to one daemon after the other: with one header anybody who may publish could stop them all.
"""

import struct
from typing import Any, Final

from pika import exceptions, spec
from pika.adapters.asyncio_connection import AsyncioConnection
from pika.frame import Header

#: What pika's decoder raises.
_STUMBLES: Final = (
    ValueError,
    ArithmeticError,
    struct.error,
    OSError,  # of the C library, which knows no such moment
    IndexError,
    RecursionError,
    exceptions.InvalidFieldTypeException,
)
_FRAME_HEAD: Final = struct.Struct(">BHL")  #: type, channel, size
_CONTENT_HEAD: Final = struct.Struct(">HHQH")  #: class, weight, bytes of the body, flags


class LenientConnection(AsyncioConnection):
    """pika's connection with one method replaced, and one more; tests hold pika to what they need."""

    _frame_buffer: bytes

    def drop(self) -> None:
        """End without connection.close, which might never be read; its socket is closed in the loop's next turns.

        ``close`` would do for one that is being opened, if pika did not stumble over its own exception then.
        """
        if not self.is_closed:
            self._terminate_stream(exceptions.StreamLostError("dropped"))  # type: ignore[attr-defined]

    def _read_frame(self) -> Any:
        try:
            return super()._read_frame()  # type: ignore[misc]  # the stubs leave out what begins with _
        except _STUMBLES:
            data = self._frame_buffer
            if data[0] != spec.FRAME_HEADER:
                raise
            return _without_headers(data)


def _without_headers(data: bytes) -> tuple[int, Header]:
    """The content header at the beginning of ``data`` and its length, its table of headers left out."""
    _, channel, size = _FRAME_HEAD.unpack_from(data)
    end = _FRAME_HEAD.size + size
    _, _, body_bytes, flags = _CONTENT_HEAD.unpack_from(data, _FRAME_HEAD.size)
    encoded = data[_FRAME_HEAD.size + _CONTENT_HEAD.size : end]
    at = 0
    for flag in (spec.BasicProperties.FLAG_CONTENT_TYPE, spec.BasicProperties.FLAG_CONTENT_ENCODING):
        at += 1 + encoded[at] if flags & flag else 0
    [table_bytes] = struct.unpack_from(">L", encoded, at)
    kept = encoded[:at] + encoded[at + 4 + table_bytes :]
    properties = spec.BasicProperties()
    properties.decode(struct.pack(">H", flags & ~spec.BasicProperties.FLAG_HEADERS) + kept)
    return end + spec.FRAME_END_SIZE, Header(channel, body_bytes, properties)
