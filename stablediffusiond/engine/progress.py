"""How far each task is, and when its progress is to be reported again."""

from collections.abc import Callable
from dataclasses import dataclass

from stablediffusiond.engine.job import Sample, Task


@dataclass(frozen=True)
class Distance:
    """How far a task is."""

    step: int  #: denoising steps done, over all images
    steps: int  #: denoising steps to do; 0 before the first


@dataclass(eq=False)
class _TaskProgress:
    task: Task
    began: float | None = None
    reported: float = 0.0
    steps: int = 0  #: of one image
    steps_done: int = 0  #: over all images
    drawn: int = 0  #: images

    @property
    def distance(self) -> Distance:
        return Distance(self.steps_done, self.steps * self.task.request.count)


class Progress:
    """Every task that was submitted and has not ended."""

    def __init__(self, interval_seconds: float, clock: Callable[[], float]) -> None:
        """Progress of one task is reported at most once in ``interval_seconds``."""
        self._interval_seconds = interval_seconds
        self._clock = clock
        self._tasks: dict[int, _TaskProgress] = {}

    def __contains__(self, key: int) -> bool:
        return key in self._tasks

    @property
    def tasks(self) -> list[Task]:
        return [progress.task for progress in self._tasks.values()]

    def add(self, task: Task) -> None:
        self._tasks[task.key] = _TaskProgress(task)

    def begin(self, sample: Sample) -> bool:
        """An image begins; whether it is the first of its task."""
        progress = self._tasks[sample.task.key]
        if progress.began is not None:
            return False
        progress.began = progress.reported = self._clock()
        progress.steps = sample.steps
        return True

    def step(self, sample: Sample, steps: int) -> Distance | None:
        """An image has made ``steps`` more; how far its task is, if that is to be reported now."""
        progress, now = self._tasks[sample.task.key], self._clock()
        progress.steps_done += steps
        progress.steps = max(progress.steps, sample.steps)
        if now - progress.reported < self._interval_seconds:
            return None
        progress.reported = now
        return progress.distance

    def draw(self, sample: Sample) -> float | None:
        """An image is drawn; the seconds since its task began, if it was the last one."""
        progress = self._tasks[sample.task.key]
        progress.drawn += 1
        return self._clock() - (progress.began or 0.0) if progress.drawn == sample.task.request.count else None

    def distance(self, key: int) -> Distance | None:
        """How far a task is; None if it is not here."""
        progress = self._tasks.get(key)
        return None if progress is None else progress.distance

    def end(self, key: int) -> None:
        self._tasks.pop(key, None)
