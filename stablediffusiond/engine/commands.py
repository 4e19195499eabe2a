"""What other threads ask of the engine: tasks, cancellations, pause, stop. Threads meet here and nowhere else."""

import logging
import threading
from collections import deque
from collections.abc import Callable

from stablediffusiond.engine.job import Task

log = logging.getLogger(__name__)


class Commands:
    """Safe from any thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._submitted: deque[Task] = deque()
        self._cancelled: set[int] = set()
        self._paused: str | None = None
        self._stopping = False

    @property
    def paused(self) -> str | None:
        """Why no step is made."""
        return self._paused

    @property
    def stopping(self) -> bool:
        return self._stopping

    def submit(self, task: Task) -> None:
        with self._changed:
            self._submitted.append(task)
            self._changed.notify()

    def cancel(self, key: int) -> None:
        with self._changed:
            self._cancelled.add(key)
            self._changed.notify()

    def pause(self, reason: str) -> None:
        with self._changed:
            if self._paused is None:
                log.warning("the engine pauses: %s", reason)
            self._paused = reason

    def resume(self) -> None:
        with self._changed:
            if self._paused is not None:
                log.info("the engine goes on")
            self._paused = None
            self._changed.notify()

    def stop(self) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify()

    def wait(self, has_work: Callable[[], bool]) -> None:
        """Wait until there is something to do; ``has_work`` says whether there is beside what is asked for here."""

        def due() -> bool:
            return bool(self._stopping or self._cancelled or (self._paused is None and (self._submitted or has_work())))

        with self._changed:
            self._changed.wait_for(due)

    def take(self) -> tuple[deque[Task], set[int]]:
        """The tasks that were submitted, and the keys that were cancelled, since the last time."""
        with self._changed:
            submitted, self._submitted = self._submitted, deque()
            cancelled, self._cancelled = self._cancelled, set()
        return submitted, cancelled
