"""One connection to the response daemon, which listens to one queue."""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from typing import Final

from stablediffusiond.errors import FramingError, ResponsesAway
from stablediffusiond.frames import (
    MAX_REPLY_LINE_BYTES,
    Ack,
    Auth,
    Frame,
    Listen,
    encode_op,
    read_frame_async,
)
from stablediffusiond.resolver import resolve
from stablediffusiond.settings import ResponseSettings

log = logging.getLogger(__name__)

_KEEPALIVE_SECONDS: Final = 30
_CLOSE_SECONDS: Final = 0.5


class ResponseConnection:
    """Made by ``ResponseConnection.open``."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(
        cls,
        settings: ResponseSettings,
        listen: Listen,
        on_broker_away: Callable[[], Awaitable[float]] | None = None,
    ) -> "ResponseConnection":
        """Connect, and return when the daemon has answered ``listening``.

        One without a broker answers ``broker_away``, and listens when it has one again. ``on_broker_away`` then returns
        for how many seconds that is waited for; without it, it is an error.

        Raises:
            ResponsesAway: it cannot be reached, or refuses.
        """
        where = f"response daemon at {_address(settings)}"
        try:
            async with asyncio.timeout(settings.handshake_seconds):
                self = cls(*await _connect(settings))
        except OSError as error:
            raise ResponsesAway(f"{where}: {_reason(error)}; {_remedy(error)}") from None
        try:
            frame = await self._greet(settings, listen, on_broker_away)
        except (OSError, FramingError) as error:
            self.abort()
            raise ResponsesAway(f"{where}: {_reason(error)}") from None
        except BaseException:
            self.abort()
            raise
        if frame is None or frame.head.get("type") != "listening":
            self.abort()
            reason = frame.head.get("message") if frame else "it closed the connection"
            raise ResponsesAway(f"{where}: {reason}")
        return self

    @property
    def descriptors(self) -> set[int]:
        """The socket, while it is open."""
        return {number for number in [self._socket.fileno()] if number >= 0}

    async def read(self) -> Frame | None:
        """The next frame; None when the connection has ended, however it did."""
        try:
            return await read_frame_async(self._reader)
        except (OSError, FramingError) as error:
            log.debug("the connection to the response daemon broke: %s", error)
            return None

    def ack(self, delivery: int) -> None:
        """Settle ``delivery``. On a connection that is gone: nothing, the reply comes again."""
        if not self._writer.is_closing():
            self._writer.write(encode_op(Ack(delivery=delivery)))

    async def close(self) -> None:
        """Close, with the acks that were written."""
        self._writer.close()
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._writer.wait_closed()
        except OSError as error:
            log.debug("the response daemon has gone first: %s", _reason(error))
            self.abort()

    def abort(self) -> None:
        """Close at once."""
        self._writer.transport.abort()

    async def _greet(
        self,
        settings: ResponseSettings,
        listen: Listen,
        on_broker_away: Callable[[], Awaitable[float]] | None,
    ) -> Frame | None:
        """Send ``auth`` and ``listen``; returns the answer."""
        async with asyncio.timeout(settings.handshake_seconds):
            self._writer.write(_greeting(settings, listen))
            frame = await read_frame_async(self._reader)
        if on_broker_away is None or frame is None or frame.head.get("code") != "broker_away":
            return frame
        patience_seconds = await on_broker_away()
        try:
            async with asyncio.timeout(patience_seconds):
                return await read_frame_async(self._reader)
        except TimeoutError:
            return frame  # its first answer still holds

    @property
    def _socket(self) -> socket.socket:
        # asyncio wraps it, and leaves the methods that we need.
        found: socket.socket = self._writer.get_extra_info("socket")
        return found


async def _connect(settings: ResponseSettings) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Over the Unix socket if there is to be one, else over TCP to the first address that answers."""
    if settings.socket is not None:
        return await asyncio.open_unix_connection(settings.socket, limit=MAX_REPLY_LINE_BYTES)
    failure = OSError(f"{settings.host} has no address")
    for family, kind, protocol, _, address in await resolve(settings.host, settings.port):
        try:
            connected = await _connect_to(socket.socket(family, kind, protocol), address)
        except OSError as error:
            failure = error
            continue
        _keep_alive(connected)
        return await asyncio.open_connection(sock=connected, limit=MAX_REPLY_LINE_BYTES)
    raise failure


async def _connect_to(made: socket.socket, address: tuple[object, ...]) -> socket.socket:
    made.settimeout(0)  # as asyncio wants it
    try:
        await asyncio.get_running_loop().sock_connect(made, address)
    except BaseException:
        made.close()
        raise
    return made


def _keep_alive(connected: socket.socket) -> None:
    """Notice a host that vanished; between jobs nothing else is sent for hours."""
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL"):
        if hasattr(socket, name):  # Linux's names
            connected.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), _KEEPALIVE_SECONDS)


def _greeting(settings: ResponseSettings, listen: Listen) -> bytes:
    """In one write: what came after a token that is refused would reset the connection, and with it the reason."""
    if settings.token is None or settings.socket is not None:
        return encode_op(listen)
    return encode_op(Auth(token=settings.token)) + encode_op(listen)


def _address(settings: ResponseSettings) -> str:
    return str(settings.socket) if settings.socket else f"{settings.host}:{settings.port}"


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "timed out"
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _remedy(error: OSError) -> str:
    if isinstance(error, PermissionError):
        return "ask to be taken into the group stablediffusion, and log in again"
    return "is stablediffusion_responsed running there?"
