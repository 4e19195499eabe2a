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

    @contextlib.asynccontextmanager
    async def limit(self, missed: str) -> AsyncIterator[None]:
        """End what is awaited here when the time has passed.

        Raises:
            TimedOut: ``missed`` says what has not happened.
        """
        left = None if self._moment is None else max(0.0, self._moment - time.monotonic())
        try:
            async with asyncio.timeout(left) as limit:
                yield
        except TimeoutError:
            if not limit.expired():
                raise
            raise TimedOut(f"{missed} in the time given") from None
