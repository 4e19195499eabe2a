"""One client's socket: lines in, frames out, and whether the client is still there.

TCP tells little about that: a client that closes its writing side (``nc -N``) looks like one that has gone. Keepalive
finds out who has gone while nothing is written, and the kernel knows it of clients on this machine.
"""

import asyncio
import select
import socket
import struct
from collections.abc import Iterable
from typing import Final

from stablediffusiond.responsed.frame_writer import ClientGone, FrameWriter
from stablediffusiond.responsed.line_reader import LineReader
from stablediffusiond.responsed.local_peers import LocalPeers

_KEEPALIVE: Final = (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3))


class ClientStream:
    """``reader`` and ``writer`` of one connection."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        local_peers: LocalPeers,
        max_line_bytes: int,
        stall_seconds: float,
    ) -> None:
        self._writer = writer
        self._local_peers = local_peers
        self._incoming = LineReader(reader, max_line_bytes)
        self._outgoing = FrameWriter(writer, local_peers, stall_seconds, self.check)
        self._socket: socket.socket = writer.get_extra_info("socket")
        #: A Unix socket can only be opened by those that its file's permissions allow.
        self.is_unix = self._socket.family == socket.AF_UNIX
        #: Who is there, for the log.
        self.peer = _process(self._socket) if self.is_unix else _address(writer.get_extra_info("peername"))
        if not self.is_unix:
            self._keep_alive()

    @property
    def mid_line(self) -> bool:
        """Whether the client has begun a line and not ended it."""
        return self._incoming.mid_line

    async def line(self) -> bytes | None:
        """The next line without its end, or None when the client sends no more. May be cancelled and called again.

        Raises:
            LineTooLong: a line is longer than allowed.
            OtherProtocol: the client speaks another one.
            ClientGone: the connection broke.
        """
        try:
            return await self._incoming.line()
        except OSError as error:
            raise ClientGone(str(error)) from None

    async def write(self, frame: Iterable[bytes]) -> None:
        """Write one frame and return when it is written out.

        Raises:
            Stalled: nothing of it was taken for ``stall_seconds``.
            OtherProtocol: the client speaks another one.
            ClientGone: the connection broke.
        """
        await self._outgoing.write(frame)

    async def write_first(self, frame: Iterable[bytes]) -> None:
        """Write the first frame to a client that has sent nothing, and may be a browser."""
        await self._outgoing.write_first(frame)

    def check(self) -> None:
        """Raise ClientGone if the kernel knows that the client has gone, OtherProtocol if it speaks another one."""
        if self._incoming.other_protocol is not None:
            raise self._incoming.other_protocol
        if self._writer.transport.is_closing() or self._gone():
            raise ClientGone("the client has closed the connection")

    def close(self) -> None:
        self._writer.transport.abort() if self._writer.transport.get_write_buffer_size() else self._writer.close()

    def _gone(self) -> bool:
        """Whether the client cannot read any more: one that has closed its writing side, as ``nc -N`` does, can."""
        poll = select.poll()
        poll.register(self._socket, 0)  # asks for nothing, and is told of errors and hang-ups all the same
        return bool(poll.poll(0)) or self._local_peers.has_closed(self._socket)

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
