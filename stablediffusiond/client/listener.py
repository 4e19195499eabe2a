"""From the response daemon to the reply buffer, or what else takes replies: a task that reads the socket, and connects
again when it breaks.

Nothing is lost with a connection: what was not acked on it comes again on the next one.
"""

import asyncio
import functools
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from stablediffusiond.client.events import Event, from_frame
from stablediffusiond.client.job_replies import Ack
from stablediffusiond.client.response_connection import ResponseConnection
from stablediffusiond.client.shared_task import SharedTask
from stablediffusiond.errors import ClientClosed, ResponsesAway
from stablediffusiond.frames import Frame, Listen
from stablediffusiond.settings import ResponseSettings

log = logging.getLogger(__name__)

_PAUSE_SECONDS: Final = (0.1, 2.0)


class ReplySink(Protocol):
    """Where replies go: a ``ReplyBuffer``, or what else takes charge of them before it acks them."""

    def put(self, event: Event, ack: Ack) -> None: ...
    def fail(self, error: ResponsesAway) -> None: ...
    def close(self) -> None: ...
    async def wait_until_wanted(self) -> bool: ...


class Listener:
    """Listens from ``start`` to ``close``."""

    def __init__(
        self,
        settings: ResponseSettings,
        listen: Listen,
        replies: ReplySink,
        *,
        reconnect_seconds: float,
        reach_broker: Callable[[], Awaitable[None]],
    ) -> None:
        """``reach_broker`` raises BrokerError where the broker cannot be reached from here either."""
        self._settings = settings
        self._listen = listen
        self._replies = replies
        self._reconnect_seconds = reconnect_seconds
        self._reach_broker = reach_broker
        self._starting = SharedTask(self._start)
        self._connection: ResponseConnection | None = None
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    async def start(self) -> None:
        """Listen; returns when the daemon does, so that the queue is there. Does nothing when called again.

        Raises:
            ResponsesAway: at once; a wrong address does not get better by waiting.
            BrokerError: the daemon has no broker, and neither have we.
        """
        if self._closed:
            raise ClientClosed("the client is closed")
        if self._task is None:
            await self._starting.result()

    @property
    def started(self) -> bool:
        """Whether the queue was ever listened to."""
        return self._task is not None

    @property
    def descriptors(self) -> set[int]:
        """The sockets in use."""
        return self._connection.descriptors if self._connection is not None else set()

    async def close(self) -> None:
        self._closed = True
        await self._starting.cancel()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _start(self) -> None:
        connection = await ResponseConnection.open(self._settings, self._listen, self._patience_for_daemon)
        self._task = asyncio.create_task(self._run(connection), name="stablediffusiond replies")
        self._task.add_done_callback(self._on_end)

    async def _patience_for_daemon(self) -> float:
        """A daemon that has lost its broker finds it again within seconds, if the broker is there."""
        await self._reach_broker()
        log.info("the response daemon is finding its broker again")
        return self._reconnect_seconds

    async def _run(self, connection: ResponseConnection | None) -> None:
        while connection is not None:
            self._connection = connection
            try:
                await self._read(connection)
            except asyncio.CancelledError:
                await connection.close()
                raise
            await connection.close()
            connection = await self._again()

    def _on_end(self, task: asyncio.Task[None]) -> None:
        self._replies.close()  # however it ended: nothing waits for more replies
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("nothing is listened to any more, because of a bug", exc_info=error)

    async def _read(self, connection: ResponseConnection) -> None:
        """Put what comes into the buffer until the connection ends."""
        try:
            while (frame := await connection.read()) is not None:
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

    async def _again(self) -> ResponseConnection | None:
        """The next connection, made as soon as a reply is waited for; None once we are closed."""
        while await self._replies.wait_until_wanted():
            try:
                return await self._reconnect()
            except ResponsesAway as error:
                self._replies.fail(error)
        return None

    async def _reconnect(self) -> ResponseConnection:
        """Try for ``reconnect_seconds``."""
        deadline = time.monotonic() + self._reconnect_seconds
        pause_seconds, longest_seconds = _PAUSE_SECONDS
        while True:
            await asyncio.sleep(pause_seconds)
            try:
                return await ResponseConnection.open(self._settings, self._listen)
            except ResponsesAway:
                if time.monotonic() >= deadline:
                    raise
            pause_seconds = min(pause_seconds * 2, longest_seconds)


def _nothing() -> None:
    """The ack of what is not held for us, as progress."""
