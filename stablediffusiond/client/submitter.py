"""The way to the broker: one AMQP connection.

What is published here is confirmed by the broker before ``publish`` returns. The first connection is tried once, since
a wrong address does not get better by waiting; one that has worked is made again for ``reconnect_seconds``.
"""

import asyncio
import logging
import time
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

from stablediffusiond.broker.channel import Channel
from stablediffusiond.broker.connection import Connection
from stablediffusiond.broker.message import Message
from stablediffusiond.broker.topology import Topology
from stablediffusiond.client.shared_task import SharedTask
from stablediffusiond.client.status_query import query_status
from stablediffusiond.errors import BrokerAway, BrokerError, BrokerLost, ClientClosed, Nacked, Unroutable
from stablediffusiond.messages.request import Request
from stablediffusiond.messages.status import ServiceStatus
from stablediffusiond.settings import BrokerSettings

log = logging.getLogger(__name__)

Made = TypeVar("Made")

_NAME: Final = "stablediffusion_client"
_PAUSE_SECONDS: Final = (0.1, 2.0)
#: What we are done with is confirmed: a broker that does not answer need not be waited for,
_CLOSE_SECONDS: Final = 1.0
#: and one that is not waited for any more even less; this is for what may still have to be written.
_SHORT_CLOSE_SECONDS: Final = 0.1


class Submitter:
    """Made once a client; for the tasks of one event loop. Connects with the first publish."""

    def __init__(self, settings: BrokerSettings, reconnect_seconds: float, name: str = _NAME) -> None:
        """``name`` is what the broker calls its connection."""
        self._settings = settings
        self._name = name
        self._reconnect_seconds = reconnect_seconds
        self._closed = False
        self._was_given_up = False
        self._under_way: set[asyncio.Task[Any]] = set()
        self._connecting = SharedTask(self._make_connection)
        self._opening = SharedTask(self._make_channel)
        self._connection: Connection | None = None
        self._channel: Channel | None = None

    @property
    def has_connected(self) -> bool:
        """Whether the broker was ever reached."""
        return self._connection is not None

    @property
    def descriptors(self) -> set[int]:
        """The sockets in use."""
        return self._connection.descriptors if self._connection is not None else set()

    async def connect(self) -> None:
        """Connect, if need be. Raises BrokerError."""
        await self._unless_closed(self._connect())

    async def publish(self, message: Message, routing_key: str, *, exchange: str = "", mandatory: bool = True) -> None:
        """Publish, and return when the broker has taken charge of ``message``.

        Raises:
            BrokerAway, BrokerRefused: the broker cannot be reached, or lets us not in.
            Unroutable, QueueMissing: there is no such queue (if ``mandatory``) or exchange.
            Nacked: the queue is full.
            ClientClosed: whether the broker has the message is in doubt.
        """
        await self._unless_closed(self._publish(message, exchange, routing_key, mandatory=mandatory))

    async def publish_request(self, message: Message, topology: Topology, request: Request) -> None:
        """Publish ``message``, which is ``request``, to the queue of its model; where there is none, to the plain one.

        Raises: as ``publish``.
        """
        if request.model and topology.has_queues(request.model):
            try:
                await self.publish(message, topology.request_queue(request.priority, request.model))
            except Unroutable:
                log.debug("the model %s has no queue of this name", request.model)
            else:
                return
        await self.publish(message, topology.request_queue(request.priority))

    def publish_and_forget(self, message: Message, exchange: str) -> None:
        """Publish what may be lost, if there is a connection just now."""
        if self._channel is not None and not self._channel.lost.done() and not self._closed:
            try:
                self._channel.publish_and_forget(message, exchange, "")
            except BrokerError as error:
                log.debug("%s is not published: %s", message.message_id, error)

    async def query_status(self, topology: Topology, *, offer: bool) -> ServiceStatus:
        """How the service is, and with ``offer``, what requests may name. Raises BrokerError."""
        return await self._unless_closed(self._query_status(topology, offer=offer))

    async def delete_queue(self, name: str) -> None:
        """Delete the queue ``name`` with what it holds. Raises BrokerError."""
        await self._unless_closed(self._delete_queue(name))

    async def close(self) -> None:
        """Close the connection; what is being published meanwhile fails. Does nothing when called again."""
        self._closed = True
        for task in self._under_way:
            task.cancel()
        await self._opening.cancel()
        await self._connecting.cancel()
        if self._under_way:
            await asyncio.wait(self._under_way)
        if self._connection is not None:
            await self._connection.close(_SHORT_CLOSE_SECONDS if self._was_given_up else _CLOSE_SECONDS)

    async def _unless_closed(self, work: Coroutine[Any, Any, Made]) -> Made:
        """Do ``work``, which ``close`` ends."""
        if self._closed:
            work.close()
            raise ClientClosed("the client is closed")
        task = asyncio.create_task(work)
        self._under_way.add(task)
        try:
            return await task
        except asyncio.CancelledError:
            caller = asyncio.current_task()
            if caller is not None and caller.cancelling():
                self._was_given_up = True
                raise
            raise ClientClosed("the client was closed; whether the broker has the message is in doubt") from None
        finally:
            self._under_way.discard(task)

    async def _publish(self, message: Message, exchange: str, routing_key: str, *, mandatory: bool) -> None:
        deadline: float | None = None
        pause_seconds, longest_seconds = _PAUSE_SECONDS
        while True:
            has_worked = self.has_connected
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

    async def _query_status(self, topology: Topology, *, offer: bool) -> ServiceStatus:
        connection = await self._connect()
        return await query_status(connection, topology, offer=offer)

    async def _delete_queue(self, name: str) -> None:
        channel = await self._open_channel()
        await channel.delete_queue(name)

    async def _open_channel(self) -> Channel:
        """The confirming channel, opened when there is none."""
        if self._channel is None or self._channel.lost.done():
            return await self._opening.result()
        return self._channel

    async def _make_channel(self) -> Channel:
        connection = await self._connect()
        channel = await connection.channel()
        await channel.confirm_publishes()
        self._channel = channel
        return channel

    async def _connect(self) -> Connection:
        """The connection, made when there is none."""
        if self._connection is None or self._connection.lost.done():
            return await self._connecting.result()
        return self._connection

    async def _make_connection(self) -> Connection:
        if self._connection is not None:
            await self._connection.close(_SHORT_CLOSE_SECONDS)  # it may be lost only because nothing comes on it
        connection = await Connection.open(self._settings, self._name)
        self._connection, self._channel = connection, None
        return connection
