"""Frames to a client, each counted as written out when the client has taken it.

A write to a client that has gone succeeds, since the kernel takes the bytes. So a frame is written out only when the
client's kernel has acknowledged all of it. On a Unix socket there is only one kernel, and a frame is written out when
the client has read it.
"""

import asyncio
import fcntl
import socket
import struct
import termios
from collections.abc import Callable, Iterable
from typing import Final

from stablediffusiond.errors import StableDiffusiondError
from stablediffusiond.responsed.local_peers import LocalPeers

_FIRST_LOOK_SECONDS, _LONGEST_LOOK_SECONDS = 0.0005, 1.0
#: How much later than it happened anything may be seen, as a part of the time that it took.
_LATENESS: Final = 0.25
#: How soon a browser closes a connection on which it has read what it did not expect; Firefox took a millisecond.
_BROWSER_CLOSES_SECONDS: Final = 0.1


class ClientGone(StableDiffusiondError):
    """Raised when the client has closed the connection, or its host does not answer."""


class Stalled(StableDiffusiondError):
    """Raised when the client takes nothing off the socket for too long."""


class FrameWriter:
    """Writes to ``writer``."""

    def __init__(
        self, writer: asyncio.StreamWriter, local_peers: LocalPeers, stall_seconds: float, check: Callable[[], None]
    ) -> None:
        """``check`` raises the error of a connection that has ended."""
        self._writer = writer
        self._local_peers = local_peers
        self._stall_seconds = stall_seconds
        self._check = check
        self._socket: socket.socket = writer.get_extra_info("socket")
        self._writing = asyncio.Lock()
        # Nothing is buffered on top of the kernel's buffer: drain() then means that the kernel has it.
        writer.transport.set_write_buffer_limits(high=0)

    async def write(self, pieces: Iterable[bytes]) -> None:
        """Write one frame and return when it is written out.

        Raises:
            Stalled: nothing of it was taken for ``stall_seconds``.
            ClientGone: the connection broke.
        """
        async with self._writing:
            await self._write(pieces)
            await self._taken(self._unsent_bytes)

    async def write_first(self, pieces: Iterable[bytes]) -> None:
        """Write the first frame to a client that has sent nothing; return when it has read it, if it is local.

        It may be a connection that a browser has opened in advance. A browser reads nothing from such a one; when it
        comes to use it, it first sends its request, or reads and closes it at once. So the first byte is written alone,
        and the rest when that is read and the client is still there.
        """
        first, *rest = pieces
        async with self._writing:
            await self._write([first[:1]])
            await self._taken(self._unread_bytes)
            await asyncio.sleep(_BROWSER_CLOSES_SECONDS)
            self._check()
            await self._write([first[1:], *rest])
            await self._taken(self._unread_bytes)

    async def _write(self, pieces: Iterable[bytes]) -> None:
        try:
            for piece in pieces:
                self._writer.write(piece)
                await self._drained()
        except OSError as error:
            raise ClientGone(str(error)) from None

    async def _drained(self) -> None:
        left = self._unsent_bytes()
        while True:
            try:
                async with asyncio.timeout(self._stall_seconds):
                    await self._writer.drain()
            except TimeoutError:
                if self._unsent_bytes() >= left:
                    raise Stalled(f"nothing was taken off the socket for {self._stall_seconds:g} s") from None
                left = self._unsent_bytes()
            else:
                return

    async def _taken(self, untaken_bytes: Callable[[], int]) -> None:
        """Wait until the other side has everything; there is no event for it, so one has to look."""
        loop = asyncio.get_running_loop()
        began = since = loop.time()
        left = untaken_bytes()
        while left:
            waited_seconds = loop.time() - began
            await asyncio.sleep(min(max(_FIRST_LOOK_SECONDS, waited_seconds * _LATENESS), _LONGEST_LOOK_SECONDS))
            self._check()
            now_left = untaken_bytes()
            if now_left < left:
                left, since = now_left, loop.time()
            elif loop.time() - since > self._stall_seconds:
                raise Stalled(f"nothing was taken off the socket for {self._stall_seconds:g} s")
        self._check()

    def _unsent_bytes(self) -> int:
        """Bytes that the client's kernel has not acknowledged, ours included (tcp(7) and unix(7), SIOCOUTQ).

        On a Unix socket it is the memory of what the client has not read: another number, but 0 at the same moment.
        """
        if self._writer.transport.is_closing():
            raise ClientGone("the client has closed the connection")
        try:
            buffer = fcntl.ioctl(self._socket.fileno(), termios.TIOCOUTQ, struct.pack("i", 0))
        except OSError as error:
            raise ClientGone(str(error)) from None
        in_kernel: int = struct.unpack("i", buffer)[0]
        return in_kernel + self._writer.transport.get_write_buffer_size()

    def _unread_bytes(self) -> int:
        """Bytes that the client has not read; of one on another machine, those that its kernel has not acknowledged."""
        return self._unsent_bytes() + self._local_peers.unread_bytes(self._socket)
