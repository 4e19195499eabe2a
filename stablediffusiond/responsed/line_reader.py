"""Lines from a client, as long as they can be ours."""

import asyncio
from typing import ClassVar, Final

from stablediffusiond.errors import FramingError, OtherProtocol
from stablediffusiond.responsed.other_protocols import LONGEST_BEGINNING_BYTES, other_protocol

_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_CHUNK_BYTES: Final = 65_536


class LineTooLong(FramingError):
    """Raised when a line has more bytes than a client may send: where the next one begins is not known."""

    code: ClassVar[str] = "line_too_long"


class LineReader:
    """Splits what ``reader`` receives into lines."""

    def __init__(self, reader: asyncio.StreamReader, max_line_bytes: int) -> None:
        self._reader = reader
        self._max_line_bytes = max_line_bytes
        self._buffer = bytearray()
        self._at_start = True
        #: The error that ended the reading, if the client speaks another protocol.
        self.other_protocol: OtherProtocol | None = None

    @property
    def mid_line(self) -> bool:
        """Whether the client has begun a line and not ended it."""
        return bool(self._buffer)

    async def line(self) -> bytes | None:
        """The next line without its end, or None when the client sends no more. May be cancelled and called again.

        Raises:
            LineTooLong: a line is longer than allowed.
            OtherProtocol: the client speaks another one; what came with its first bytes is not returned either.
            OSError: the connection broke.
        """
        await asyncio.sleep(0)  # of a client that sends thousands of lines at once, one is read between those of others
        while True:
            end = self._buffer.find(b"\n")
            self._refuse_other_protocols(end)
            if (len(self._buffer) if end < 0 else end) > self._max_line_bytes:
                raise LineTooLong(f"a line may have {self._max_line_bytes} bytes")
            if end >= 0:
                line = bytes(self._buffer[:end])
                del self._buffer[: end + 1]
                return line
            if not await self._receive():
                return None

    async def _receive(self) -> bool:
        """Wait for more bytes; False if there are none to come."""
        chunk = await self._reader.read(_CHUNK_BYTES)
        self._buffer += chunk
        if self._at_start and not _BYTE_ORDER_MARK.startswith(self._buffer):
            self._at_start = False
            self._buffer = self._buffer.removeprefix(_BYTE_ORDER_MARK)
        return bool(chunk)

    def _refuse_other_protocols(self, line_end: int) -> None:
        name = other_protocol(bytes(self._buffer[: max(line_end + 1, LONGEST_BEGINNING_BYTES)]))
        if name is not None:
            self.other_protocol = OtherProtocol(name)
            raise self.other_protocol
