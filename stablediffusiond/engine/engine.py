"""The engine's loop: choose, denoise, decode, again and again, while there is something to do.

The loop's thread hands tasks in and gets events out; everything else belongs to the engine's thread alone. Between two
steps, and only there, jobs come, are cancelled, expire and leave. At most one picture is decoded between two steps, so
that those still stepping do not wait for all that are finished.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from stablediffusiond.engine.batcher import Batcher
from stablediffusiond.engine.capacity import Capacity
from stablediffusiond.engine.job import (
    Begun,
    Drawn,
    Event,
    Failed,
    Finished,
    Pixels,
    Previewed,
    Sample,
    Shape,
    Stepped,
    Task,
)
from stablediffusiond.errors import Cancelled, Expired, JobError, OutOfMemory, TooLarge
from stablediffusiond.histogram import Histogram
from stablediffusiond.messages.replies import ImageFacts, PreviewFacts
from stablediffusiond.messages.request import Request

log = logging.getLogger(__name__)

#: A step, or the beginning or end of an image, that takes longer than this counts as a hung device.
_LONGEST_STEP_SECONDS: Final = 120.0
_STEP_SECONDS: Final = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
_ROWS: Final = (1, 2, 4, 8, 16, 32, 64)


class Denoiser(Protocol):
    """The device. Each method may raise a JobError for the sample at hand, and leaves the others as they were."""

    @property
    def device(self) -> str: ...
    @property
    def dtype(self) -> str: ...
    def memory_bytes(self) -> int | None:
        """What is held on the device; None where nobody keeps an account of it."""
        ...

    def shape_of(self, request: Request) -> Shape: ...
    def rows_of(self, request: Request) -> int: ...
    def time_rows(self, rows: int) -> float: ...
    def most_pixels(self) -> int | None: ...
    def begin(self, sample: Sample) -> None: ...
    def step(self, samples: Sequence[Sample], rows_at_once: int) -> dict[int, JobError]:
        """One UNet call and one scheduler step each; samples whose own step failed, by their place."""
        ...

    def finish(self, sample: Sample) -> Pixels: ...
    def facts(self, sample: Sample) -> ImageFacts: ...
    def preview(self, sample: Sample) -> Pixels: ...
    def free_memory(self) -> None: ...


@dataclass(frozen=True)
class Distance:
    """How far a task is."""

    step: int  #: UNet calls done, over all images
    steps: int  #: UNet calls to do; 0 before the first


@dataclass(eq=False)
class _Account:
    """How far a task is, and when that was last said."""

    task: Task
    began: float | None = None
    said: float = 0.0
    steps: int = 0  #: of one image
    steps_done: int = 0  #: over all images
    drawn: int = 0


class Engine:
    """Owns ``denoiser``."""

    def __init__(
        self,
        denoiser: Denoiser,
        capacity: Capacity,
        *,
        progress_interval_seconds: float,
        on_event: Callable[[Event], None],
        high_alone: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._denoiser = denoiser
        self._capacity = capacity
        self._batcher = Batcher(capacity.rows_at_most, clock, high_alone=high_alone)
        self._progress_interval_seconds = progress_interval_seconds
        self._on_event = on_event
        self._clock = clock
        self._wake = threading.Condition()
        self._inbox: deque[Task] = deque()
        self._cancelled: set[int] = set()
        self._previewed: set[int] = set()
        self._paused: str | None = None
        self._stopping = False
        self._busy_since: float | None = None
        self._accounts: dict[int, _Account] = {}
        self._undecoded: deque[Sample] = deque()
        #: What a UNet call and its scheduler steps take, and how many rows it has; for anybody to look at.
        self.step_seconds = Histogram(_STEP_SECONDS)
        self.rows_per_call = Histogram(_ROWS)

    # From any thread

    def shape_of(self, request: Request) -> Shape:
        """The size that ``request`` is drawn in."""
        return self._denoiser.shape_of(request)

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

    def show_previews(self, key: int) -> None:
        """Have the images of a task shown as they come, as often as its progress is said."""
        self._previewed.add(key)

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
    def paused(self) -> str | None:
        """Why no step is made."""
        return self._paused

    def how_far(self, key: int) -> Distance | None:
        """How far a task is; None if it has not been taken in, or has ended."""
        if (account := self._accounts.get(key)) is None:
            return None
        return Distance(account.steps_done, account.steps * account.task.request.count)

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
            self._wake.wait_for(lambda: self._stopping or self._cancelled or (self._paused is None and self._has_work))
        self._busy_since = self._clock()

    @property
    def _has_work(self) -> bool:
        return bool(self._inbox or self._undecoded) or not self._batcher.idle

    def _take_in(self) -> None:
        """Take what others handed in, and drop what need not be drawn any more."""
        with self._wake:
            arrived, self._inbox = self._inbox, deque()
            cancelled, self._cancelled = self._cancelled, set()
        for task in arrived:
            self._accounts[task.key] = _Account(task)
            self._receive(task)
        self._drop_void(cancelled)

    def _receive(self, task: Task) -> None:
        shape, rows = self._denoiser.shape_of(task.request), self._denoiser.rows_of(task.request)
        most = self._capacity.most_pixels
        if most is not None and shape.pixels > most:
            self._fail(task, TooLarge(f"{shape} pixels do not fit into the device's memory; {most} may", field="width"))
            return
        self._batcher.add(Sample(task, index, shape, rows) for index in range(task.request.count))

    def _drop_void(self, cancelled: set[int]) -> None:
        now = self._clock()
        for task in [account.task for account in self._accounts.values()]:
            if task.key in cancelled:
                self._fail(task, Cancelled("cancelled"))
            elif task.deadline is not None and now > task.deadline:
                self._fail(task, Expired("its deadline passed before it was finished"))

    def step(self) -> None:
        """One tick: choose, denoise, decode one."""
        chosen = self._batcher.next_batch()
        for sample in chosen:
            if not sample.begun and self._goes_on(sample):
                self._begin(sample)
        batch = [sample for sample in chosen if self._goes_on(sample)]
        if batch:
            began = self._clock()
            self._denoise(batch)
            seconds = self._clock() - began
            self._batcher.charge(batch, seconds)
            self.step_seconds.add(seconds)
            self.rows_per_call.add(sum(sample.rows for sample in batch))
            finished = [sample for sample in batch if sample.finished]
            self._batcher.end(finished)
            self._undecoded.extend(finished)
        if self._undecoded:
            self._decode(self._undecoded.popleft())

    def _goes_on(self, sample: Sample) -> bool:
        """Whether its task has not ended; it may have, by the fault of another of its images."""
        return sample.task.key in self._accounts

    def _begin(self, sample: Sample) -> None:
        try:
            self._denoiser.begin(sample)
        except JobError as error:
            self._fail(sample.task, error)
            return
        account = self._accounts[sample.task.key]
        if account.began is None:
            account.began = account.said = self._clock()
            account.steps = sample.steps
            self._on_event(Begun(sample.task))

    def _denoise(self, batch: list[Sample]) -> None:
        """One UNet call for ``batch``; if it fails as a whole, one for each, so that only who fails alone fails."""
        try:
            failures = self._call(batch)
        except JobError as error:
            if len(batch) == 1:
                self._fail(batch[0].task, error)
                return
            log.warning("a UNet call for %d images failed (%s); each is tried alone", len(batch), error)
            for sample in batch:
                if self._goes_on(sample):
                    self._denoise([sample])
            return
        for place, sample in enumerate(batch):
            if not self._goes_on(sample):
                continue
            if place in failures:
                self._fail(sample.task, failures[place])
            else:
                sample.step += 1
                self._report(sample)

    def _call(self, batch: list[Sample]) -> dict[int, JobError]:
        """As one call; where memory ends in calls of half the rows, down to one."""
        shape, rows = batch[0].shape, sum(sample.rows for sample in batch)
        while True:
            rows_at_once = self._capacity.rows_at_most(shape)
            try:
                return self._denoiser.step(batch, rows_at_once)
            except OutOfMemory:
                self._denoiser.free_memory()
                if min(rows, rows_at_once) == 1:
                    self._capacity.forget(shape)
                    raise
                self._capacity.learn_too_many(shape, min(rows, rows_at_once))

    def _decode(self, sample: Sample) -> None:
        if not self._goes_on(sample):
            return
        account = self._accounts[sample.task.key]
        try:
            pixels = self._denoiser.finish(sample)
        except JobError as error:
            self._denoiser.free_memory()
            self._fail(sample.task, error)
            return
        self._on_event(Drawn(sample.task, self._denoiser.facts(sample), pixels))
        account.drawn += 1
        if account.drawn == sample.task.request.count:
            self._forget(sample.task)
            self._on_event(Finished(sample.task, self._clock() - (account.began or 0.0)))

    def _report(self, sample: Sample) -> None:
        """Count a step; say so, and show what there is, if it is time or was asked for."""
        task, now = sample.task, self._clock()
        account, every = self._accounts[task.key], task.request.preview_every
        account.steps_done += 1
        asked = every is not None and sample.step % every == 0
        if now - account.said >= self._progress_interval_seconds:
            account.said = now
            self._on_event(Stepped(task, account.steps_done, account.steps * task.request.count))
            asked = asked or task.key in self._previewed
        if asked and not sample.finished:
            facts = PreviewFacts(id=task.request.id, index=sample.index, step=sample.step, steps=sample.steps)
            self._on_event(Previewed(task, facts, self._denoiser.preview(sample)))

    def _fail(self, task: Task, error: JobError) -> None:
        """End a task, whatever it has waiting or in flight."""
        self._batcher.drop(task.key)
        self._forget(task)
        self._on_event(Failed(task, error))

    def _forget(self, task: Task) -> None:
        self._accounts.pop(task.key, None)
        self._previewed.discard(task.key)
