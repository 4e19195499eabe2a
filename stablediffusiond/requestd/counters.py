"""What this daemon has done since its model was ready: plain numbers, written by the loop and read by whoever asks."""

import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Final, Literal

from stablediffusiond.errors import ReplyCode
from stablediffusiond.histogram import Histogram

Outcome = Literal["done"] | ReplyCode

_RECENT_SECONDS: Final = 60.0
_QUEUED_SECONDS: Final = (0.1, 0.5, 1, 2, 5, 10, 30, 60, 300, 1800)


class Counters:
    """Counts pictures and jobs."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()
        self._recent: deque[float] = deque()
        self.images = 0
        self.outcomes: Counter[str] = Counter()
        self.queued_seconds = Histogram(_QUEUED_SECONDS)

    def picture_published(self) -> None:
        self.images += 1
        self._recent.append(self._clock())

    def job_ended(self, outcome: Outcome) -> None:
        self.outcomes[outcome] += 1

    @property
    def done(self) -> int:
        return self.outcomes["done"]

    @property
    def failed(self) -> int:
        return self.outcomes.total() - self.done

    @property
    def uptime_seconds(self) -> float:
        return self._clock() - self._began

    @property
    def images_per_second(self) -> float:
        """Over the last minute, or since the start."""
        now = self._clock()
        while self._recent and now - self._recent[0] > _RECENT_SECONDS:
            self._recent.popleft()
        return len(self._recent) / max(1.0, min(now - self._began, _RECENT_SECONDS))
