"""Replies on their way into the store: each is acked when it is on the disk for good, and not before.

So a gateway that is killed at any moment gets what it had not stored again, from its own queue, by the next one.
"""

import asyncio
import logging
from typing import Final

from stablediffusiond.client.events import Event, Image, Preview
from stablediffusiond.client.job_replies import Ack, key
from stablediffusiond.errors import ResponsesAway
from stablediffusiond.gateway.errors import StoreUnavailable
from stablediffusiond.gateway.jobs import Jobs
from stablediffusiond.messages.replies import Done, Failed, Progress

log = logging.getLogger(__name__)

_Name = tuple[str, str]

_PAUSE_SECONDS: Final = (1.0, 30.0)


class Replies:
    """A ``ReplySink`` of the client library's listener."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        #: One that comes again, on another connection, while it is being stored, only brings the ack that is good now.
        self._acks: dict[_Name, Ack] = {}
        self._storing: set[asyncio.Task[None]] = set()
        #: Fails with the first error that is a bug.
        self.broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        #: Set when nothing is listened to any more: only a bug does that.
        self.closed = asyncio.Event()
        #: Why nothing can be stored; None when all is well.
        self.trouble: str | None = None

    def put(self, event: Event, ack: Ack) -> None:
        if isinstance(event, Progress | Preview):
            self._jobs.show(event)
            return
        name = (event.id, key(event))
        is_new = name not in self._acks
        self._acks[name] = ack
        if is_new:
            storing = asyncio.create_task(self._store(event, name), name=f"{name[1]} of job {name[0]}")
            self._storing.add(storing)
            storing.add_done_callback(self._on_end)

    async def _store(self, event: Image | Done | Failed, name: _Name) -> None:
        """However long it takes: what is not acked meanwhile waits in the queue. The order does not matter."""
        pause_seconds, longest_seconds = _PAUSE_SECONDS
        while True:
            try:
                await (self._jobs.add_image(event) if isinstance(event, Image) else self._jobs.add_end(event))
            except StoreUnavailable as error:
                if self.trouble is None:
                    log.error("the store takes nothing: %s; trying on", error.reason)  # noqa: TRY400 (for operators, without a traceback)
                self.trouble = f"the store takes nothing: {error.reason}"
            else:
                if self.trouble is not None:
                    log.info("the store takes pictures again")
                self.trouble = None
                self._acks.pop(name)()
                return
            await asyncio.sleep(pause_seconds)
            pause_seconds = min(pause_seconds * 2, longest_seconds)

    def _on_end(self, storing: asyncio.Task[None]) -> None:
        self._storing.discard(storing)
        if not storing.cancelled() and (error := storing.exception()) is not None and not self.broken.done():
            self.broken.set_exception(error)

    def fail(self, error: ResponsesAway) -> None:
        log.warning("no replies come: %s; trying on", error)

    async def wait_until_wanted(self) -> bool:
        """They always are."""
        return True

    def close(self) -> None:
        """Nothing waits here that the queue does not have."""
        for storing in self._storing:
            storing.cancel()
        self.closed.set()
