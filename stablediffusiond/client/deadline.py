"""The time that a caller gives, over all the waits that are made for it."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

from stablediffusiond.errors import TimedOut


class Deadline:
    """Counts from when it is made; None is for ever."""

    def __init__(self, timeout_seconds: float | None) -> None:
        self._moment = None if timeout_seconds is None else time.monotonic() + timeout_seconds

    def left_seconds(self) -> float | None:
        """What is left of it, never below zero; None is for ever."""
        return None if self._moment is None else max(0.0, self._moment - time.monotonic())

    @contextlib.asynccontextmanager
    async def limit(self, missed: str) -> AsyncIterator[None]:
        """End what is awaited here when the time has passed.

        Raises:
            TimedOut: ``missed`` is what has not happened.
        """
        try:
            async with asyncio.timeout(self.left_seconds()) as limit:
                yield
        except TimeoutError:
            if not limit.expired():
                raise
            raise TimedOut(f"{missed} in the time given") from None
