"""Who steps next: the policy, without torch and without time of its own.

Images, not jobs, are admitted: up to ``max_images`` are in flight, and a job of sixteen leaves room for others as soon
as its first are through. Those waiting are ordered by priority and then by arrival, and waiting counts: after
``_AGEING_SECONDS`` a job ranks with those one priority higher, so that low ones are slow but never stuck. Images of one
shape share a UNet call; where there are several shapes the one that has had the least of the device goes first.
"""

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Final

from stablediffusiond.engine.job import Sample, Task

_RANK: Final = {"high": 0, "normal": 1, "low": 2}
_AGEING_SECONDS: Final = 60.0


@dataclass(eq=False)
class _Waiting:
    task: Task
    since: float
    next_index: int = 0


class Batcher:
    """State: who waits, who is in flight, what each shape has cost."""

    def __init__(self, max_images: int, clock: Callable[[], float]) -> None:
        self._max_images = max_images
        self._clock = clock
        self._waiting: list[_Waiting] = []
        self._running: list[Sample] = []
        self._cost: dict[Hashable, float] = {}

    @property
    def running(self) -> tuple[Sample, ...]:
        return tuple(self._running)

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do at all."""
        return not self._running and not self._waiting

    @property
    def tasks(self) -> tuple[Task, ...]:
        """Every task that waits or runs."""
        known = {waiting.task.key: waiting.task for waiting in self._waiting}
        return tuple((known | {sample.task.key: sample.task for sample in self._running}).values())

    def add(self, task: Task) -> None:
        self._waiting.append(_Waiting(task, self._clock()))

    def next_image(self) -> tuple[Task, int] | None:
        """The image to begin now, or None if all places are taken or nobody waits. Counts as begun."""
        if not self._waiting or len(self._running) >= self._max_images:
            return None
        first = min(self._waiting, key=self._rank)
        index, first.next_index = first.next_index, first.next_index + 1
        if first.next_index == first.task.request.count:
            self._waiting.remove(first)
        return first.task, index

    def begin(self, sample: Sample) -> None:
        """Put an image in flight."""
        if all(sample.shape != other.shape for other in self._running):
            # A shape that comes new begins level with the others, and not with the credit of its absence.
            in_flight = [self._cost.get(other.shape, 0.0) for other in self._running]
            self._cost = {other.shape: self._cost.get(other.shape, 0.0) for other in self._running}
            self._cost[sample.shape] = min(in_flight, default=0.0)
        self._running.append(sample)

    def next_batch(self) -> list[Sample]:
        """The images for one UNet call: all of the shape that has had the least device time a waiting image."""
        if not self._running:
            return []
        shape = min((sample.shape for sample in self._running), key=lambda each: self._cost.get(each, 0.0))
        return [sample for sample in self._running if sample.shape == shape]

    def charge(self, batch: list[Sample], seconds: float) -> None:
        """Account for a UNet call: device time by shape, so that shapes with more images get more of it."""
        shape = batch[0].shape
        self._cost[shape] = self._cost.get(shape, 0.0) + seconds / len(batch)

    def end(self, samples: Iterable[Sample]) -> None:
        """Take images out of flight."""
        gone = set(map(id, samples))
        self._running = [sample for sample in self._running if id(sample) not in gone]

    def drop(self, key: int) -> bool:
        """Take a whole task out, waiting and in flight; False if it is not here."""
        before = len(self._waiting) + len(self._running)
        self._waiting = [waiting for waiting in self._waiting if waiting.task.key != key]
        self._running = [sample for sample in self._running if sample.task.key != key]
        return len(self._waiting) + len(self._running) < before

    def _rank(self, waiting: _Waiting) -> tuple[float, float]:
        aged = (self._clock() - waiting.since) / _AGEING_SECONDS
        # An image of a job that is under way comes before jobs of its rank that have not begun.
        return (max(0.0, _RANK[waiting.task.request.priority] - aged // 1), waiting.since)
