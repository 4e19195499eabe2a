"""The confirming channel that publishes share: opened when it is first needed, and again after each loss."""

import asyncio
from collections.abc import Callable

from stablediffusiond.broker.channel import Channel
from stablediffusiond.broker.connection import Connection
from stablediffusiond.broker.link import Link


class PublishingChannel:
    """A channel of ``link``, and others beside it for queues that take nothing."""

    def __init__(self, link: Link, on_reconnect: Callable[[], None]) -> None:
        """``on_reconnect`` is called when a connection takes publishes that did not, or is another one."""
        self._link = link
        self._on_reconnect = on_reconnect
        self._opening = asyncio.Lock()
        self._open: tuple[Connection, Channel] | None = None

    @property
    def usable_now(self) -> Channel | None:
        """The channel, if it is open and the broker takes publishes at this moment."""
        if self._open is None:
            return None
        connection, channel = self._open
        return channel if connection.accepting.is_set() and not channel.lost.done() else None

    async def get(self) -> Channel:
        """The channel of the live connection, opened when there is none."""
        async with self._opening:
            connection = await self.connection()
            if self._open is None or self._open[0] is not connection or self._open[1].lost.done():
                self._open = (connection, await self.another())
            return self._open[1]

    async def another(self) -> Channel:
        """A channel that is not shared; who asks for it retires it."""
        connection = await self.connection()
        channel = await connection.channel()
        await channel.confirm_publishes()
        return channel

    async def connection(self) -> Connection:
        """The live connection, when it takes publishes."""
        live = self._link.live
        if live is None or not live.accepting.is_set():
            live = await self._link.connection()
            await live.accepting.wait()
            self._on_reconnect()
        return live

    def retire(self) -> None:
        """Have the next ``get`` open another one.

        A channel that was opened while a cluster still had a dead node for the leader of a queue is refused by RabbitMQ
        3.10 for as long as that node is away, and others are not.
        """
        if self._open is not None:
            self._open[1].retire()
            self._open = None
