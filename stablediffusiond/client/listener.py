"""From the response daemon to the reply buffer: a thread that reads the socket, and connects again when it breaks.

Nothing is lost with a connection: what was not acked on it comes again on the next one.
"""

import functools
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

from stablediffusiond.client.events import from_frame
from stablediffusiond.client.reply_buffer import ReplyBuffer
from stablediffusiond.errors import BrokerError, FramingError, ResponsesAway
from stablediffusiond.frames import Ack, Auth, Frame, Listen, encode_op, read_frame
from stablediffusiond.settings import ResponseSettings

log = logging.getLogger(__name__)

#: Replies on the way to us; this times a picture is what a program that does not read keeps in memory.
_PREFETCH: Final = 4
_PAUSE_SECONDS: Final = (0.1, 2.0)
_KEEPALIVE_SECONDS: Final = 30


class ResponseConnection:
    """One connection that listens to one queue."""

    def __init__(
        self, settings: ResponseSettings, listen: Listen, on_broker_away: Callable[[], float] | None = None
    ) -> None:
        """Connect, and return when the daemon says that it listens.

        One that has no broker itself says so, and listens when it has one again. ``on_broker_away`` then tells for how
        many seconds that is waited for; without it, it is a no.

        Raises:
            ResponsesAway: nobody is there, or they say no.
        """
        where = f"response daemon at {_address(settings)}"
        try:
            self._socket = _connect(settings)
        except OSError as error:
            raise ResponsesAway(f"{where}: {error.strerror or error}; {_remedy(error)}") from None
        self._reader = self._socket.makefile("rb")
        self._sending = threading.Lock()
        try:
            self._socket.sendall(_greeting(settings, listen))
            frame = self._answer(on_broker_away)
        except (OSError, FramingError) as error:
            self.close()
            raise ResponsesAway(f"{where}: {error}") from None
        except BrokerError:
            self.close()
            raise
        if frame is None or frame.head.get("type") != "listening":
            self.close()
            said = frame.head.get("message") if frame else "it closed the connection"
            raise ResponsesAway(f"{where}: {said}")
        self._socket.settimeout(None)
        if settings.socket is None:
            self._keep_alive()

    def _answer(self, on_broker_away: Callable[[], float] | None) -> Frame | None:
        frame = read_frame(self._reader)
        if on_broker_away is None or frame is None or frame.head.get("code") != "broker_away":
            return frame
        self._socket.settimeout(on_broker_away())
        try:
            return read_frame(self._reader)
        except TimeoutError:
            return frame  # what it said then still holds

    def frames(self) -> Iterator[Frame]:
        """What comes, until the connection ends, however it does."""
        try:
            while (frame := read_frame(self._reader)) is not None:
                yield frame
        except (OSError, FramingError) as error:
            log.debug("the connection to the response daemon broke: %s", error)

    def ack(self, delivery: int) -> None:
        """Settle ``delivery``. On a connection that is gone: nothing, the reply comes again."""
        try:
            with self._sending:
                self._socket.sendall(encode_op(Ack(delivery=delivery)))
        except OSError as error:
            log.debug("%d is not acked: %s", delivery, error)

    def shut(self) -> None:
        """End what ``frames`` waits for."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError as error:
            log.debug("the response daemon has gone first: %s", error)

    def close(self) -> None:
        self._reader.close()
        self._socket.close()

    def _keep_alive(self) -> None:
        """Notice a host that vanished; between jobs nothing else is sent for hours."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL"):
            if hasattr(socket, name):  # Linux's names
                self._socket.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), _KEEPALIVE_SECONDS)


class Listener:
    """Listens to ``queue`` from ``start`` to ``close``."""

    def __init__(
        self,
        settings: ResponseSettings,
        queue: str,
        replies: ReplyBuffer,
        *,
        progress: bool,
        previews: bool,
        reconnect_seconds: float,
        reach_broker: Callable[[], None],
    ) -> None:
        """``reach_broker`` raises BrokerError where the broker cannot be reached from here either."""
        self._settings = settings
        self._listen = Listen(
            queue=queue,
            progress=progress,
            previews=previews,
            encoding="binary",
            ack="manual",
            prefetch=_PREFETCH,
        )
        self._replies = replies
        self._reconnect_seconds = reconnect_seconds
        self._reach_broker = reach_broker
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._connection: ResponseConnection | None = None

    def start(self) -> None:
        """Listen; returns when the daemon does, so that the queue is there. Does nothing when called again.

        Raises:
            ResponsesAway: at once; a wrong address does not get better by waiting.
            BrokerError: the daemon has no broker, and neither have we.
        """
        with self._starting:
            if self._thread is not None:
                return
            self._connection = ResponseConnection(self._settings, self._listen, self._patience_for_daemon)
            self._thread = threading.Thread(target=self._run, name="stablediffusiond replies", daemon=True)
            self._thread.start()

    @property
    def started(self) -> bool:
        """Whether the queue was ever listened to."""
        return self._thread is not None

    def close(self) -> None:
        self._stop.set()
        self._replies.close()
        if self._connection is not None:
            self._connection.shut()
        if self._thread is not None:
            self._thread.join()

    def _patience_for_daemon(self) -> float:
        """A daemon that has lost its broker finds it again within seconds, if the broker is there."""
        self._reach_broker()
        log.info("the response daemon is finding its broker again")
        return self._reconnect_seconds

    def _run(self) -> None:
        try:
            while self._connection is not None:
                self._read(self._connection)
                self._connection.close()
                self._connection = self._again()
        finally:
            self._replies.close()  # whatever ends this thread, nobody shall wait for it

    def _read(self, connection: ResponseConnection) -> None:
        """Put what comes into the buffer until the connection ends."""
        if self._stop.is_set():
            return
        try:
            for frame in connection.frames():
                self._receive(frame, connection)
        except ResponsesAway as error:
            self._replies.fail(error)

    def _receive(self, frame: Frame, connection: ResponseConnection) -> None:
        if frame.head.get("type") == "error":
            log.warning("the response daemon says: %s", frame.head.get("message"))
            return
        delivery = frame.head.get("delivery")
        ack = functools.partial(connection.ack, delivery) if isinstance(delivery, int) else _nothing
        event = from_frame(frame)
        if event is None:
            ack()
        else:
            self._replies.put(event, ack)

    def _again(self) -> ResponseConnection | None:
        """The next connection, made as soon as a thread waits for a reply; None once we are closed."""
        while self._replies.wait_until_wanted():
            try:
                return self._reconnect()
            except ResponsesAway as error:
                self._replies.fail(error)
        return None

    def _reconnect(self) -> ResponseConnection:
        """Try for ``reconnect_seconds``."""
        deadline = time.monotonic() + self._reconnect_seconds
        pause_seconds, longest_seconds = _PAUSE_SECONDS
        while True:
            if self._stop.wait(pause_seconds):
                raise ResponsesAway("the client is closed")
            try:
                return ResponseConnection(self._settings, self._listen)
            except ResponsesAway:
                if time.monotonic() >= deadline:
                    raise
            pause_seconds = min(pause_seconds * 2, longest_seconds)


def _nothing() -> None:
    """The ack of what is not held for us, as progress."""


def _greeting(settings: ResponseSettings, listen: Listen) -> bytes:
    """At one stroke: what came after a token that is refused would reset the connection, and with it the reason."""
    if settings.token is None or settings.socket is not None:
        return encode_op(listen)
    return encode_op(Auth(token=settings.token)) + encode_op(listen)


def _address(settings: ResponseSettings) -> str:
    return str(settings.socket) if settings.socket else f"{settings.host}:{settings.port}"


def _connect(settings: ResponseSettings) -> socket.socket:
    """Over the Unix socket if there is to be one, else over TCP."""
    if settings.socket is None:
        return socket.create_connection((settings.host, settings.port), settings.handshake_seconds)
    connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connected.settimeout(settings.handshake_seconds)
    try:
        connected.connect(str(settings.socket))
    except BaseException:
        connected.close()
        raise
    return connected


def _remedy(error: OSError) -> str:
    if isinstance(error, PermissionError):
        return "ask to be taken into the group stablediffusion, and log in again"
    return "is stablediffusion_responsed running there?"
