"""A connection that is made again whenever it is lost.

pika does not reconnect, and a half-dead link is worse than none. So there is one rule: when a connection ends it is
thrown away with everything on it, and a new one is made, after a pause that doubles with jitter up to a limit. An
outage is logged twice, when it begins and when it ends, and not once a try.
"""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from types import TracebackType
from typing import Final, Self

from stablediffusiond.broker.connection import Connection
from stablediffusiond.errors import BrokerError, BrokerForbidden, BrokerRefused
from stablediffusiond.settings import BrokerSettings

log = logging.getLogger(__name__)

#: A connection that lasts longer has worked; after a shorter one the next pause is longer.
_SHORT_LIVED_SECONDS: Final = 5
#: Connections that end one like the other are logged once in so many: about every minute.
_OFTEN: Final = 5
_SEPARATE_CONNECTIONS: Final = 4


class Link:
    """``async with Link(...)`` begins to connect; ``await link.connection()`` waits for a live connection."""

    def __init__(
        self,
        settings: BrokerSettings,
        name: str,
        prepare: Callable[[Connection], Awaitable[None]] | None = None,
    ) -> None:
        self._settings = settings
        self._name = name
        self._prepare = prepare
        self._live: Connection | None = None
        self._changed = asyncio.Condition()
        self._separate = asyncio.Semaphore(_SEPARATE_CONNECTIONS)
        self._task: asyncio.Task[None] | None = None
        self._connections = 0
        #: The node to begin with: the next one after each that lets us in and is of no use, as was seen twice.
        self._first_node = 0
        #: Why there is no connection, or why the broker takes nothing; None when all is well.
        self.trouble: str | None = "connecting"
        #: Called whenever ``trouble`` may have changed.
        self.on_change: Callable[[], None] = lambda: None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._keep(), name=f"link {self._name}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        if self._live is not None:
            await self._live.close()

    @property
    def task(self) -> asyncio.Task[None]:
        """What keeps the connection; it ends only with an error that trying again cannot mend."""
        if self._task is None:
            raise RuntimeError("the link has not been entered")
        return self._task

    @property
    def live(self) -> Connection | None:
        """The connection, if there is one now."""
        return self._live if self._live is not None and not self._live.lost.done() else None

    @property
    def reconnects(self) -> int:
        """Connections that were made after the first."""
        return max(0, self._connections - 1)

    async def connection(self) -> Connection:
        """The live connection; waits for one as long as it takes."""
        async with self._changed:
            while (live := self.live) is None:
                await self._changed.wait()
            return live

    @contextlib.asynccontextmanager
    async def separate_connection(self) -> AsyncIterator[Connection]:
        """One beside the live one, for what may end the connection that it is done on; only a few at a time.

        Raises:
            BrokerError: it cannot be made.
        """
        async with self._separate:
            connection = await Connection.open(self._settings, f"{self._name}, separately")
            try:
                yield connection
            finally:
                await connection.close()

    async def _keep(self) -> None:
        pauses = _pauses(self._settings)
        known, times = "", 0
        while True:
            connection = await self._connect()
            began = time.monotonic()
            self._connections += 1
            await self._announce(connection)
            await asyncio.wait({connection.lost})  # and not `await lost`, which would be cancelled with us
            reason = connection.lost.result()
            await self._announce(None, str(reason))
            short_lived = time.monotonic() - began < _SHORT_LIVED_SECONDS
            times = times + 1 if short_lived and str(reason) == known else 1
            if times > 1:
                self._first_node += 1
            if times == 1:
                log.warning("%s: connection to the broker lost (%s); connecting again", self._name, reason)
            elif times % _OFTEN == 0:
                log.error("%s: the broker has ended %d connections in turn (%s); trying on", self._name, times, reason)
            known = str(reason)
            if not short_lived:
                pauses = _pauses(self._settings)
            else:  # let in and thrown out at once: not for ever as fast as we can, since each time counts as a delivery
                await asyncio.sleep(next(pauses))

    async def _connect(self) -> Connection:
        """Try until it works."""
        began = time.monotonic()
        for tries, pause_seconds in enumerate(_pauses(self._settings), start=1):
            try:
                connection = await self._try()
            except BrokerError as error:
                self._report(error, first=tries == 1)
                await asyncio.sleep(pause_seconds)
            else:
                if tries > 1:
                    log.info("%s: connected after %d tries in %.1f s", self._name, tries, time.monotonic() - began)
                return connection
        raise AssertionError("there is no last try")

    async def _try(self) -> Connection:
        connection = await Connection.open(self._settings, self._name, first=self._first_node)
        connection.on_blocked = self._set_blocked
        if self._prepare is not None:
            try:
                await self._prepare(connection)
            except BaseException:
                connection.abandon()
                self._first_node += 1
                raise
        return connection

    def _report(self, error: BrokerError, *, first: bool) -> None:
        """Log the first failure of an outage, and each change of its reason that an operator has to act on."""
        known, self.trouble = self.trouble, str(error)
        self.on_change()
        if isinstance(error, BrokerRefused | BrokerForbidden) and known != self.trouble:
            log.error("%s: %s; trying on", self._name, error)
        elif first:
            log.warning("%s: %s; trying on", self._name, error)

    def _set_blocked(self, blocked: bool) -> None:
        self.trouble = "the broker takes no publishes: memory or disk alarm" if blocked else None
        if blocked:
            log.warning("%s: the broker takes no publishes: memory or disk alarm", self._name)
        else:
            log.info("%s: the broker takes publishes again", self._name)
        self.on_change()

    async def _announce(self, connection: Connection | None, trouble: str | None = None) -> None:
        async with self._changed:
            self._live, self.trouble = connection, trouble
            self._changed.notify_all()
        self.on_change()


def _pauses(settings: BrokerSettings) -> Iterator[float]:
    """Seconds between tries: doubling, the half of each at random, so that many clients do not come at once."""
    pause = settings.reconnect_min_seconds
    while True:
        yield pause * random.uniform(0.5, 1)  # noqa: S311 (spread, not secrecy)
        pause = min(pause * 2, settings.reconnect_max_seconds)
