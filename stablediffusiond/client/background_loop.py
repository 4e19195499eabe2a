"""An event loop on a thread of its own, for programs that have none.

It is a thread of its own also because a program that computes for minutes must keep its heartbeats.
"""

import asyncio
import concurrent.futures
import contextlib
import selectors
import threading
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Final, Generic, TypeVar

from stablediffusiond.client import fork
from stablediffusiond.errors import ClientClosed

Result = TypeVar("Result")

_NAME: Final = "stablediffusiond client"


class _Call(Generic[Result]):
    """What a thread has done on the loop, and may be interrupted in: before it has begun, while it runs, or after.

    All but ``result`` is the loop's.
    """

    def __init__(self, work: Coroutine[Any, Any, Result], give_back: Callable[[Result], object] | None) -> None:
        self.work = work
        self.result: concurrent.futures.Future[Result] = concurrent.futures.Future()
        self._give_back = give_back
        self._task: asyncio.Task[Result] | None = None

    def begin(self) -> None:
        self._task = asyncio.create_task(self.work)
        self._task.add_done_callback(self._on_done)

    def give_up(self) -> None:
        """The thread does not take the result."""
        if self._task is None:
            self.work.close()
        elif not self._task.done():
            self._task.cancel()
        elif self._give_back is not None and not self._task.cancelled() and self._task.exception() is None:
            self._give_back(self._task.result())

    def _on_done(self, task: asyncio.Task[Result]) -> None:
        if task.cancelled():
            self.result.cancel()
        elif (error := task.exception()) is not None:
            self.result.set_exception(error)
        else:
            self.result.set_result(task.result())


class BackgroundLoop:
    """Safe from any thread. Starts with the first ``run``."""

    def __init__(self) -> None:
        self._starting = threading.Lock()
        self._selector: selectors.BaseSelector | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()
        self._last: Callable[[], Coroutine[Any, Any, None]] | None = None
        self._thread: threading.Thread | None = None
        self._ended = False
        self._inherited = False

    def run(self, work: Coroutine[Any, Any, Result], give_back: Callable[[Result], object] | None = None) -> Result:
        """Have ``work`` done on the loop, and wait for it.

        If we are interrupted (Ctrl-C) it is cancelled; if it was done just then, its result goes to ``give_back``.

        Raises:
            ClientClosed: the loop has ended, or ends meanwhile.
        """
        call = _Call(work, give_back)
        try:
            self._begin(call)
            return call.result.result()
        except concurrent.futures.CancelledError:
            raise ClientClosed("the client is closed") from None
        except BaseException:
            self.call_soon(call.give_up)
            raise

    def call_soon(self, callback: Callable[[], object]) -> None:
        """Have ``callback`` called on the loop, if there is one; takes no lock, so a finalizer may do it."""
        if self._loop is not None and not self._inherited:
            with contextlib.suppress(RuntimeError):  # it has ended
                self._loop.call_soon_threadsafe(callback)

    def stop(self, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """End the loop, and with it what runs there, when it has done ``last``. Does nothing when called again."""
        with self._starting:
            ended_before, self._ended = self._ended, True
        if self._thread is not None and not ended_before:
            self._last = last
            self.call_soon(self._stop.set)
            self._thread.join()

    def disown(self, descriptors: Iterable[int]) -> None:
        """In a forked child: this is the parent's, and so are ``descriptors``."""
        self._inherited = True
        if self._loop is None or self._selector is None or self._loop.is_closed():
            return
        self._loop.set_exception_handler(lambda *_: None)  # that its tasks did not end is no news
        mine = {*descriptors, *(key.fd for key in self._selector.get_map().values())}
        if isinstance(self._selector, selectors.EpollSelector):
            mine.add(self._selector.fileno())
        fork.disown(self, mine)

    def _begin(self, call: _Call[Any]) -> None:
        with self._starting:
            if self._ended:
                call.work.close()
                raise ClientClosed("the client is closed")
            if self._loop is None:
                self._selector = selectors.DefaultSelector()
                self._loop = loop = asyncio.SelectorEventLoop(self._selector)
                self._thread = threading.Thread(target=self._live, args=(loop,), name=_NAME, daemon=True)
                self._thread.start()
            self._loop.call_soon_threadsafe(call.begin)

    def _live(self, loop: asyncio.AbstractEventLoop) -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:  # which cancels what is left, and closes the loop
            runner.run(self._until_stopped())

    async def _until_stopped(self) -> None:
        await self._stop.wait()
        if self._last is not None:
            await self._last()
