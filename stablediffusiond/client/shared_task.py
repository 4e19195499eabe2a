"""One try for all who need what it makes: a hundred jobs at once do not connect a hundred times, nor one by one."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from stablediffusiond.errors import ClientClosed

Made = TypeVar("Made")


class SharedTask(Generic[Made]):
    """A waiter that is cancelled leaves it to the others; it goes on also without any, for the next one."""

    def __init__(self, make: Callable[[], Coroutine[Any, Any, Made]]) -> None:
        self._make = make
        self._task: asyncio.Task[Made] | None = None

    async def result(self) -> Made:
        """What the try that is under way makes, or a new one. Raises what it raises, and ClientClosed."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._make())
            self._task.add_done_callback(_look_at)
        task = self._task
        await asyncio.wait({task})  # and not `await task`, which would be cancelled with us
        if task.cancelled():
            raise ClientClosed("the client is closed")
        return task.result()

    async def cancel(self) -> None:
        """End it."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})


def _look_at(task: asyncio.Task[Any]) -> None:
    """Otherwise asyncio logs an error that was never retrieved."""
    if not task.cancelled():
        task.exception()
