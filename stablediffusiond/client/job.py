"""A job as a program holds it, with an event loop or without, and its events.

A job whose object is gone is forgotten: its replies are acked as they come, and kept nowhere.
"""

import asyncio
import contextlib
import functools
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from types import TracebackType
from typing import Self

from stablediffusiond.client.background_loop import BackgroundLoop
from stablediffusiond.client.core import Asked, Core
from stablediffusiond.client.deadline import Deadline
from stablediffusiond.client.events import Event
from stablediffusiond.client.job_replies import JobReplies


class _BaseJob:
    """A request that the broker has taken charge of."""

    def __init__(self, asked: Asked, replies: JobReplies, core: Core, on_loop: Callable[..., None]) -> None:
        """``on_loop`` has something called on the event loop, from whichever thread."""
        self.request = asked.request
        self.warnings = asked.warnings  #: what was accepted and ignored
        self._replies = replies
        self._core = core
        self._forget = weakref.finalize(self, on_loop, functools.partial(core.replies.forget, replies))
        self._forget.atexit = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.request!r})"

    @property
    def id(self) -> str:
        return self.request.id

    def forget(self) -> None:
        """Drop what has come of the job and was not read, and what will come. It is drawn all the same: see ``cancel``.

        This happens by itself when this object is garbage collected, and at the end of a ``with`` block.
        """
        self._forget()


class Job(_BaseJob):
    """A job of a ``Client``."""

    def __init__(self, asked: Asked, replies: JobReplies, core: Core, loop: BackgroundLoop) -> None:
        super().__init__(asked, replies, core, loop.call_soon)
        self._loop = loop

    def events(self, *, timeout_seconds: float | None = None) -> Iterator[Event]:
        """The events of the job, as they come; ends after ``Done`` or ``Failed``. Each event is handed out once.

        Raises:
            TimedOut: the job has not ended ``timeout_seconds`` after the first ``next``. It goes on all the same.
            ResponsesAway: the response daemon has gone, and did not come back in time. To go on, call this again.
            BelongsElsewhere: this process is a fork of the one that submitted the job.
        """
        return _Events(self, self._replies, self._core, self._loop, timeout_seconds)

    def __iter__(self) -> Iterator[Event]:
        return self.events()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.forget()


class AsyncJob(_BaseJob):
    """A job of an ``AsyncClient``."""

    def __init__(self, asked: Asked, replies: JobReplies, core: Core, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(asked, replies, core, functools.partial(_call_soon, core, loop))

    def events(self, *, timeout_seconds: float | None = None) -> AsyncIterator[Event]:
        """As ``Job.events``. After a wait that was cancelled, the same iterator goes on, and so does another one."""
        return _AsyncEvents(self, self._replies, self._core, timeout_seconds)

    def __aiter__(self) -> AsyncIterator[Event]:
        return self.events()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.forget()


class _Events(Iterator[Event]):
    def __init__(
        self, job: Job, replies: JobReplies, core: Core, loop: BackgroundLoop, timeout_seconds: float | None
    ) -> None:
        self._job = job  # who reads a job holds it
        self._replies = replies
        self._core = core
        self._loop = loop
        self._timeout_seconds = timeout_seconds
        self._deadline: Deadline | None = None

    def __next__(self) -> Event:
        self._core.check_process(self._job.id)
        self._deadline = self._deadline or Deadline(self._timeout_seconds)
        waiting = self._core.next_event(self._replies, self._deadline)
        event = self._loop.run(waiting, functools.partial(self._core.replies.give_back, self._replies))
        if event is None:
            raise StopIteration
        return event


class _AsyncEvents(AsyncIterator[Event]):
    """An object and no generator, which would end with the first wait that is cancelled."""

    def __init__(self, job: AsyncJob, replies: JobReplies, core: Core, timeout_seconds: float | None) -> None:
        self._job = job
        self._replies = replies
        self._core = core
        self._timeout_seconds = timeout_seconds
        self._deadline: Deadline | None = None

    async def __anext__(self) -> Event:
        self._core.check_process(self._job.id)
        self._deadline = self._deadline or Deadline(self._timeout_seconds)
        event = await self._core.next_event(self._replies, self._deadline)
        if event is None:
            raise StopAsyncIteration
        return event


def _call_soon(core: Core, loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
    if core.is_of_this_process():
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(callback)
