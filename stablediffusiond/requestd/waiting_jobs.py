"""Jobs that wait for their models in this daemon."""

import asyncio
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from stablediffusiond.engine.changeover import Wanted


@dataclass(eq=False)
class WaitingJob:
    """A job whose model is not there, or is about to make room."""

    model: str
    urgent: bool  #: of high priority
    since: float  #: by time.monotonic
    granted: bool = False  #: it counts among the jobs of its model
    ready: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class WaitingJobs:
    """In the order in which they came."""

    def __init__(self) -> None:
        self._jobs: list[WaitingJob] = []

    def __len__(self) -> int:
        return len(self._jobs)

    @property
    def models(self) -> list[str]:
        return self.models_of(urgent_only=False)

    def models_of(self, *, urgent_only: bool) -> list[str]:
        """Those that jobs of high priority wait for, or any."""
        return list(dict.fromkeys(job.model for job in self._jobs if job.urgent or not urgent_only))

    def add(self, job: WaitingJob) -> None:
        self._jobs.append(job)

    def discard(self, job: WaitingJob) -> None:
        if job in self._jobs:
            self._jobs.remove(job)

    def of(self, model: str) -> list[WaitingJob]:
        return [job for job in self._jobs if job.model == model]

    def longest_seconds(self, model: str) -> float:
        """How long the first of them has waited; 0 where there is none."""
        return round(max((time.monotonic() - job.since for job in self.of(model)), default=0.0), 1)

    def take(self, is_due: Callable[[WaitingJob], bool]) -> list[WaitingJob]:
        """Those that are due, and that somebody still waits for; they wait no more."""
        due = [job for job in self._jobs if is_due(job)]
        self._jobs = [job for job in self._jobs if job not in due]
        return [job for job in due if not job.ready.done()]

    def clear(self) -> None:
        self._jobs.clear()

    def wanted(self, there: Collection[str], bytes_of: Callable[[str], int]) -> list[Wanted]:
        """The models that they wait for, without those that are ``there``."""
        return [
            Wanted(
                name,
                bytes_of(name),
                min(job.since for job in self.of(name)),
                any(job.urgent for job in self.of(name)),
            )
            for name in self.models
            if name not in there
        ]
