"""One client's socket: lines in, frames out, and the knowledge of whether anybody is still there.

TCP says little about that. A client that closes its writing side (``nc -N``) looks like one that has gone, and a write
to one that has gone succeeds, since the kernel takes the bytes. So a frame counts as written out only when the client's
kernel has acknowledged its bytes, and keepalive finds out who has gone while nothing is written. On a Unix socket there
is only one kernel, and a frame counts as written out when the client has read it.
"""

import asyncio
import fcntl
import select
import socket
import struct
import termios
from collections.abc import Iterable
from typing import Final

from stablediffusiond.errors import FramingError, StableDiffusiondError

_CHUNK_BYTES: Final = 65_536
_KEEPALIVE: Final = (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3))
_FIRST_LOOK_SECONDS, _LONGEST_LOOK_SECONDS = 0.0005, 1.0
#: How much later than it happened anything may be seen, as a part of the time that it took.
_LATENESS: Final = 0.25


class ClientGone(StableDiffusiondError):
    """Raised when the client has closed the connection, or its host does not answer."""


class Stalled(StableDiffusiondError):
    """Raised when the client takes nothing off the socket for too long."""


class ClientStream:
    """``reader`` and ``writer`` of one connection."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, max_line_bytes: int, stall_seconds: float
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._max_line_bytes = max_line_bytes
        self._stall_seconds = stall_seconds
        self._buffer = bytearray()
        self._socket: socket.socket = writer.get_extra_info("socket")
        #: Whether it is a Unix socket, which only they can open whom its file lets.
        self.is_local = self._socket.family == socket.AF_UNIX
        #: Who is there, for the log.
        self.peer = _process(self._socket) if self.is_local else _address(writer.get_extra_info("peername"))
        # Nothing is buffered on top of the kernel's buffer: drain() then means that the kernel has it.
        writer.transport.set_write_buffer_limits(high=0)
        if not self.is_local:
            self._keep_alive()

    @property
    def mid_line(self) -> bool:
        """Whether the client has begun a line and not ended it."""
        return bool(self._buffer)

    async def line(self) -> bytes | None:
        """The next line without its end, or None when the client says no more. May be cancelled and called again.

        Raises:
            FramingError: the line is too long.
            ClientGone: the connection broke.
        """
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > self._max_line_bytes:
                raise FramingError(f"a line may have {self._max_line_bytes} bytes")
            try:
                chunk = await self._reader.read(_CHUNK_BYTES)
            except OSError as error:
                raise ClientGone(str(error)) from None
            if not chunk:
                return None
            self._buffer += chunk
        if end > self._max_line_bytes:
            raise FramingError(f"a line may have {self._max_line_bytes} bytes")
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line

    async def write(self, pieces: Iterable[bytes]) -> None:
        """Write one frame and return when the client's kernel has all of it.

        Raises:
            Stalled: nothing of it was taken for ``stall_seconds``.
            ClientGone: the connection broke.
        """
        try:
            for piece in pieces:
                self._writer.write(piece)
                await self._drained()
            await self._acknowledged()
        except OSError as error:
            raise ClientGone(str(error)) from None

    def check(self) -> None:
        """Raise ClientGone if the kernel knows that nobody is there."""
        if self._writer.transport.is_closing() or self._gone():
            raise ClientGone("the client has closed the connection")

    def close(self) -> None:
        self._writer.transport.abort() if self._writer.transport.get_write_buffer_size() else self._writer.close()

    async def _drained(self) -> None:
        left = self._unsent()
        while True:
            try:
                async with asyncio.timeout(self._stall_seconds):
                    await self._writer.drain()
            except TimeoutError:
                if self._unsent() >= left:
                    raise Stalled(f"nothing was taken off the socket for {self._stall_seconds:g} s") from None
                left = self._unsent()
            else:
                return

    async def _acknowledged(self) -> None:
        """Wait until the other side's kernel has everything; there is no event for it, so one has to look."""
        loop = asyncio.get_running_loop()
        began = since = loop.time()
        left = self._unsent()
        while left:
            waited_seconds = loop.time() - began
            await asyncio.sleep(min(max(_FIRST_LOOK_SECONDS, waited_seconds * _LATENESS), _LONGEST_LOOK_SECONDS))
            self.check()
            now_left = self._unsent()
            if now_left < left:
                left, since = now_left, loop.time()
            elif loop.time() - since > self._stall_seconds:
                raise Stalled(f"nothing was taken off the socket for {self._stall_seconds:g} s")
        self.check()

    def _unsent(self) -> int:
        """Bytes that the client's kernel has not acknowledged, ours included (tcp(7) and unix(7), SIOCOUTQ).

        On a Unix socket it is the memory of what the client has not read: another number, but 0 at the same moment.
        """
        if self._writer.transport.is_closing():
            raise ClientGone("the client has closed the connection")
        buffer = fcntl.ioctl(self._socket.fileno(), termios.TIOCOUTQ, struct.pack("i", 0))
        in_kernel: int = struct.unpack("i", buffer)[0]
        return in_kernel + self._writer.transport.get_write_buffer_size()

    def _gone(self) -> bool:
        """Whether the kernel has given up this connection: half a goodbye, as ``nc -N`` says it, is none."""
        poll = select.poll()
        poll.register(self._socket, 0)  # asks for nothing, and is told of errors and hang-ups all the same
        return bool(poll.poll(0))

    def _keep_alive(self) -> None:
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE:
            if hasattr(socket, name):
                self._socket.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _address(peer: object) -> str:
    return f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else "a client that has left"


def _process(local: socket.socket) -> str:
    """The process at the other end (unix(7), SO_PEERCRED)."""
    if not hasattr(socket, "SO_PEERCRED"):
        return "a local client"
    number: int = struct.unpack("3i", local.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))[0]
    return f"process {number}"
