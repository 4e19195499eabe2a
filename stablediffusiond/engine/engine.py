"""The engine's loop: admit, denoise, finish, again and again, while there is something to do.

The loop's thread hands tasks in and gets events out; everything else belongs to the engine's thread alone. Between two
steps, and only there, jobs come, are cancelled, expire and leave.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final, Protocol

from stablediffusiond.engine.batcher import Batcher
from stablediffusiond.engine.job import Begun, Drawn, Event, Failed, Finished, Pixels, Sample, Stepped, Task
from stablediffusiond.errors import Cancelled, Expired, JobError
from stablediffusiond.messages.replies import ImageFacts

log = logging.getLogger(__name__)

#: A step, or the beginning or end of an image, that takes longer than this counts as a hung device.
_LONGEST_STEP_SECONDS: Final = 120.0


class Denoiser(Protocol):
    """The device. Each method may raise a JobError for the sample at hand, and leaves the others as they were."""

    @property
    def device_name(self) -> str: ...
    def begin(self, task: Task, index: int) -> Sample: ...
    def step(self, samples: Sequence[Sample]) -> dict[int, JobError]:
        """One UNet call and one scheduler step each; samples whose own step failed, by their place."""
        ...

    def finish(self, sample: Sample) -> Pixels: ...
    def facts(self, sample: Sample) -> ImageFacts: ...
    def free_memory(self) -> None: ...


class _Progress:
    """How far a task is, and when that was last said."""

    def __init__(self, now: float, steps_an_image: int) -> None:
        self.began = self.said = now
        self.steps_an_image = steps_an_image
        self.steps_done = 0
        self.drawn = 0


class Engine:
    """Owns ``denoiser``."""

    def __init__(
        self,
        denoiser: Denoiser,
        *,
        max_images: int,
        progress_interval_seconds: float,
        on_event: Callable[[Event], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._denoiser = denoiser
        self._batcher = Batcher(max_images, clock)
        self._progress_interval_seconds = progress_interval_seconds
        self._on_event = on_event
        self._clock = clock
        self._wake = threading.Condition()
        self._inbox: deque[Task] = deque()
        self._cancelled: set[int] = set()
        self._paused: str | None = None
        self._stopping = False
        self._busy_since: float | None = None
        self._progress: dict[int, _Progress] = {}

    # From any thread

    def submit(self, task: Task) -> None:
        """Have ``task`` drawn; events follow."""
        with self._wake:
            self._inbox.append(task)
            self._wake.notify()

    def cancel(self, key: int) -> None:
        """End a task with Failed(Cancelled) before its next step; nothing happens for one that is not here."""
        with self._wake:
            self._cancelled.add(key)
            self._wake.notify()

    def pause(self, reason: str) -> None:
        """Begin no further step until ``resume``."""
        with self._wake:
            if self._paused is None:
                log.warning("the engine pauses: %s", reason)
            self._paused = reason

    def resume(self) -> None:
        with self._wake:
            if self._paused is not None:
                log.info("the engine goes on")
            self._paused = None
            self._wake.notify()

    @property
    def healthy(self) -> bool:
        """Whether the device has answered lately, or has nothing to do."""
        busy_since = self._busy_since
        return busy_since is None or self._clock() - busy_since < _LONGEST_STEP_SECONDS

    def stop(self) -> None:
        """Have ``run`` return after the step it is in; tasks in flight are dropped without a word."""
        with self._wake:
            self._stopping = True
            self._wake.notify()

    # On the engine's thread

    def run(self) -> None:
        """Draw until ``stop``. Call it on the thread that loaded the model.

        Two threads that have used torch have two pools of OpenMP threads; with more of those than cores they no longer
        spin between two operations but sleep, and a small UNet takes twice the time.
        """
        while not self._stopping:
            self._wait_for_work()
            self._take_in()
            if self._paused is None and not self._stopping:
                self.step()

    def _wait_for_work(self) -> None:
        self._busy_since = None
        with self._wake:
            self._wake.wait_for(
                lambda: (
                    self._stopping
                    or self._cancelled
                    or (self._paused is None and (self._inbox or not self._batcher.idle))
                )
            )
        self._busy_since = self._clock()

    def _take_in(self) -> None:
        """Take what others handed in, and drop what need not be drawn any more."""
        with self._wake:
            for task in self._inbox:
                self._batcher.add(task)
            self._inbox.clear()
            cancelled, self._cancelled = self._cancelled, set()
        self._drop_void(cancelled)

    def step(self) -> None:
        """One tick: admit, denoise, finish."""
        self._admit()
        batch = self._batcher.next_batch()
        if batch:
            began = self._clock()
            self._denoise(batch)
            self._batcher.charge(batch, self._clock() - began)
            self._finish([sample for sample in batch if sample.finished])

    def _drop_void(self, cancelled: set[int]) -> None:
        now = datetime.now(UTC)
        for task in self._batcher.tasks:
            if task.key in cancelled:
                self._fail(task, Cancelled("cancelled"))
            elif task.deadline is not None and now > task.deadline:
                self._fail(task, Expired("its deadline passed before it was finished"))

    def _admit(self) -> None:
        while (following := self._batcher.next_image()) is not None:
            task, index = following
            try:
                sample = self._denoiser.begin(task, index)
            except JobError as error:
                self._fail(task, error)
                continue
            if task.key not in self._progress:
                self._progress[task.key] = _Progress(self._clock(), sample.steps)
                self._on_event(Begun(task))
            self._batcher.begin(sample)

    def _denoise(self, batch: list[Sample]) -> None:
        """One UNet call for ``batch``; if it fails as a whole, one for each, so that only who fails alone fails."""
        try:
            failures = self._denoiser.step(batch)
        except JobError as error:
            self._denoiser.free_memory()
            if len(batch) == 1:
                self._fail(batch[0].task, error)
                return
            log.warning("a UNet call for %d images failed (%s); each is tried alone", len(batch), error)
            for sample in batch:
                if sample.task.key in self._progress:  # else another image of its task has just failed
                    self._denoise([sample])
            return
        for place, sample in enumerate(batch):
            if sample.task.key not in self._progress:
                continue
            if place in failures:
                self._fail(sample.task, failures[place])
            else:
                sample.step += 1
                self._report(sample.task)

    def _finish(self, samples: list[Sample]) -> None:
        self._batcher.end(samples)
        for sample in samples:
            progress = self._progress.get(sample.task.key)
            if progress is None:
                continue  # another image of its task has just failed
            try:
                pixels = self._denoiser.finish(sample)
            except JobError as error:
                self._denoiser.free_memory()
                self._fail(sample.task, error)
                continue
            self._on_event(Drawn(sample.task, self._denoiser.facts(sample), pixels))
            progress.drawn += 1
            if progress.drawn == sample.task.request.count:
                del self._progress[sample.task.key]
                self._on_event(Finished(sample.task, self._clock() - progress.began))

    def _report(self, task: Task) -> None:
        """Count a step, and say so if it is time."""
        progress, now = self._progress[task.key], self._clock()
        progress.steps_done += 1
        if now - progress.said >= self._progress_interval_seconds:
            progress.said = now
            self._on_event(Stepped(task, progress.steps_done, progress.steps_an_image * task.request.count))

    def _fail(self, task: Task, error: JobError) -> None:
        """End a task, whatever it has waiting or in flight."""
        self._batcher.drop(task.key)
        self._progress.pop(task.key, None)
        self._on_event(Failed(task, error))
