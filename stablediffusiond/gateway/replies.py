"""Replies on their way into the store: each is acked when it is on the disk, and not before.

So a gateway that is killed at any moment gets what it had not stored again, from its own queue, by the next one.
"""

import asyncio
import logging
from typing import Final

from stablediffusiond.client.events import Event, Image, Preview
from stablediffusiond.client.job_replies import Ack, key
from stablediffusiond.errors import ResponsesAway
from stablediffusiond.gateway.jobs import Jobs
from stablediffusiond.messages.replies import Done, Failed, Progress

log = logging.getLogger(__name__)

_PAUSE_SECONDS: Final = (1.0, 30.0)


class Replies:
    """A ``ReplySink`` of the client library's listener."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        #: One that comes again, on another connection, takes the place of the one that waits: its ack is the good one.
        self._waiting: dict[tuple[str, str], tuple[Image | Done | Failed, Ack]] = {}
        self._has_more = asyncio.Event()
        #: Set when nothing is listened to any more: only a bug does that.
        self.closed = asyncio.Event()
        #: Why nothing can be stored; None when all is well.
        self.trouble: str | None = None

    def put(self, event: Event, ack: Ack) -> None:
        if isinstance(event, Progress | Preview):
            self._jobs.show(event)
            return
        self._waiting[event.id, key(event)] = event, ack
        self._has_more.set()

    async def run(self) -> None:
        """Store what comes, in its order, until cancelled."""
        while True:
            await self._has_more.wait()
            self._has_more.clear()
            while self._waiting:
                name = next(iter(self._waiting))
                await self._store(self._waiting[name][0])
                self._waiting.pop(name)[1]()

    async def _store(self, event: Image | Done | Failed) -> None:
        """However long it takes: what is not acked meanwhile waits in the queue."""
        pause_seconds, longest_seconds = _PAUSE_SECONDS
        while True:
            try:
                await (self._jobs.add_image(event) if isinstance(event, Image) else self._jobs.add_end(event))
            except OSError as error:
                if self.trouble is None:
                    log.error("the store takes nothing: %s; trying on", error)  # noqa: TRY400 (for operators, without a traceback)
                self.trouble = f"the store takes nothing: {error.strerror}"
            else:
                self.trouble = None
                return
            await asyncio.sleep(pause_seconds)
            pause_seconds = min(pause_seconds * 2, longest_seconds)

    def fail(self, error: ResponsesAway) -> None:
        log.warning("no replies come: %s; trying on", error)

    async def wait_until_wanted(self) -> bool:
        """They always are."""
        return True

    def close(self) -> None:
        """Nothing waits here that the queue does not have."""
        self.closed.set()
