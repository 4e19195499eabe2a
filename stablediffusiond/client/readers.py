"""Who waits for which job, and is woken when something has changed."""

import asyncio
from collections.abc import Iterable

from stablediffusiond.client.job_replies import JobReplies
from stablediffusiond.errors import ClientClosed, ResponsesAway


class Readers:
    """Those of one reply buffer."""

    def __init__(self) -> None:
        #: Jobs whose next event is waited for, and which have none yet.
        self._awaited: set[JobReplies] = set()
        self._any = asyncio.Event()
        self._failures = 0
        self._failure = ""
        self._closed = False

    def __len__(self) -> int:
        return len(self._awaited)

    async def wait(self, replies: JobReplies) -> None:
        """Wait until something has changed with this job.

        Raises:
            ResponsesAway: ``fail`` was called meanwhile.
            ClientClosed: nothing will change any more.
        """
        if self._closed:
            raise ClientClosed("the client is closed")
        failures = self._failures
        replies.readers += 1
        self._awaited.add(replies)
        self._any.set()
        replies.changed.clear()
        try:
            await replies.changed.wait()
        finally:
            replies.readers -= 1
            if not replies.readers:
                self._serve(replies)
        if self._failures != failures:
            raise ResponsesAway(self._failure)

    def wake(self, replies: JobReplies) -> None:
        """Something has changed with this job."""
        replies.changed.set()
        self._serve(replies)

    def fail(self, error: ResponsesAway, jobs: Iterable[JobReplies]) -> None:
        """Raise ``error`` in all that wait now."""
        self._failures += 1
        self._failure = str(error)
        for replies in jobs:
            self.wake(replies)

    async def wait_for_any(self) -> bool:
        """Wait until there is one; False once it is closed."""
        await self._any.wait()
        return not self._closed

    def close(self, jobs: Iterable[JobReplies]) -> None:
        self._closed = True
        self._any.set()
        for replies in jobs:
            self.wake(replies)

    def _serve(self, replies: JobReplies) -> None:
        """It is not waited for any more; a reader that still does registers again."""
        self._awaited.discard(replies)
        if not self._awaited and not self._closed:
            self._any.clear()
