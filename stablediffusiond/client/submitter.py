"""The way to the broker: one AMQP connection, on a thread of its own so that its heartbeats outlive long computations.

What is published here is confirmed by the broker before ``publish`` returns. The first connection is tried once, since
a wrong address does not get better by waiting; one that has worked is made again for ``reconnect_seconds``.
"""

import asyncio
import concurrent.futures
import functools
import logging
import threading
import time
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

from stablediffusiond.broker.channel import Channel
from stablediffusiond.broker.connection import Connection
from stablediffusiond.broker.message import Message
from stablediffusiond.broker.topology import Topology
from stablediffusiond.client.status_query import query_status
from stablediffusiond.errors import BrokerAway, BrokerLost, Nacked
from stablediffusiond.messages.status import ServiceStatus
from stablediffusiond.settings import BrokerSettings

log = logging.getLogger(__name__)

Made = TypeVar("Made")

_NAME: Final = "stablediffusion_client"
_PAUSE_SECONDS: Final = (0.1, 2.0)
_CLOSE_SECONDS: Final = 5


class Submitter:
    """Made once a client; safe from any thread. Connects with the first publish."""

    def __init__(self, settings: BrokerSettings, reconnect_seconds: float) -> None:
        self._settings = settings
        self._reconnect_seconds = reconnect_seconds
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self._stop = asyncio.Event()
        self._opening = asyncio.Lock()
        self._connection: Connection | None = None
        self._channel: Channel | None = None

    def connect(self) -> None:
        """Connect, if need be. Raises BrokerError."""
        self._run(self._connect())

    def publish(self, message: Message, routing_key: str, *, exchange: str = "", mandatory: bool = True) -> None:
        """Publish, and return when the broker has taken charge of ``message``.

        Raises:
            BrokerAway, BrokerRefused: the broker cannot be reached, or lets us not in.
            Unroutable, QueueMissing: there is no such queue (if ``mandatory``) or exchange.
            Nacked: the queue is full.
        """
        self._run(self._publish(message, exchange, routing_key, mandatory=mandatory))

    def query_status(self, topology: Topology) -> ServiceStatus:
        """How the service is. Raises BrokerError."""
        return self._run(self._query_status(topology))

    def delete_queue(self, name: str) -> None:
        """Delete the queue ``name`` with what it holds. Raises BrokerError."""
        self._run(self._delete_queue(name))

    def close(self) -> None:
        """Close the connection; what is being published meanwhile fails. Does nothing when called again."""
        with self._starting:
            closed_before, self._closed = self._closed, True
        if self._loop is not None and self._thread is not None and not closed_before:
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()

    def _run(self, work: Coroutine[Any, Any, Made]) -> Made:
        """Have ``work`` done on the loop's thread."""
        with self._starting:
            if self._closed:
                work.close()
                raise BrokerLost("the client is closed")
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                live = functools.partial(self._live, self._loop)
                self._thread = threading.Thread(target=live, name="stablediffusiond broker", daemon=True)
                self._thread.start()
            doing = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return doing.result()
        except concurrent.futures.CancelledError:
            raise BrokerLost("the client was closed; whether the broker has the message is in doubt") from None

    def _live(self, loop: asyncio.AbstractEventLoop) -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:  # which closes the loop
            runner.run(self._until_stopped())

    async def _until_stopped(self) -> None:
        await self._stop.wait()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        if self._connection is not None:
            await asyncio.wait({asyncio.ensure_future(self._connection.close())}, timeout=_CLOSE_SECONDS)

    async def _publish(self, message: Message, exchange: str, routing_key: str, *, mandatory: bool) -> None:
        deadline: float | None = None
        pause_seconds, longest_seconds = _PAUSE_SECONDS
        while True:
            has_worked = self._connection is not None
            try:
                channel = await self._open_channel()
                # A repeat has the same message_id, by which its reader knows it.
                return await channel.publish(message, exchange, routing_key, mandatory=mandatory)
            except Nacked:
                self._channel = None
                channel.retire()  # it may be only this one that is refused: see Publisher
                raise
            except (BrokerAway, BrokerLost) as error:
                deadline = deadline or time.monotonic() + self._reconnect_seconds
                if not has_worked and isinstance(error, BrokerAway):
                    raise
                if time.monotonic() >= deadline:
                    raise BrokerAway(f"{error}; gave up after {self._reconnect_seconds:g} s") from None
                log.debug("publishing %s again: %s", message.message_id, error)
            await asyncio.sleep(pause_seconds)
            pause_seconds = min(pause_seconds * 2, longest_seconds)

    async def _query_status(self, topology: Topology) -> ServiceStatus:
        connection = await self._connect()
        return await query_status(connection, topology)

    async def _delete_queue(self, name: str) -> None:
        channel = await self._open_channel()
        await channel.delete_queue(name)

    async def _open_channel(self) -> Channel:
        """The confirming channel, opened when there is none."""
        connection = await self._connect()
        async with self._opening:
            if self._channel is None or self._channel.lost.done():
                channel = await connection.channel()
                await channel.confirm_publishes()
                self._channel = channel
            return self._channel

    async def _connect(self) -> Connection:
        """The connection, made when there is none."""
        async with self._opening:
            if self._connection is None or self._connection.lost.done():
                self._connection, self._channel = await Connection.open(self._settings, _NAME), None
            return self._connection
