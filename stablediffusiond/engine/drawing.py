"""Drawing, from tick to tick: choose, begin, denoise, decode; and what is reported of it. On the engine's thread alone.

Between two ticks, and only there, jobs come, are cancelled, expire and leave. Those still stepping do not wait for all
pictures that are finished: one is decoded in a tick, or several at once where that takes no longer than a step.
"""

import math
from collections.abc import Callable
from typing import Final

from stablediffusiond.engine.batcher import Batcher
from stablediffusiond.engine.capacity import CallSizes
from stablediffusiond.engine.decode_queue import DecodeQueue
from stablediffusiond.engine.device import Denoiser
from stablediffusiond.engine.job import (
    Begun,
    Drawn,
    Ending,
    Event,
    Failed,
    Finished,
    Kind,
    Previewed,
    Sample,
    Stepped,
    Task,
)  # fmt: skip
from stablediffusiond.engine.progress import Progress
from stablediffusiond.engine.recovery import RecoveringStep
from stablediffusiond.errors import Cancelled, Expired, JobError, TooLarge
from stablediffusiond.histogram import Histogram
from stablediffusiond.messages.complete_request import CompleteRequest
from stablediffusiond.messages.replies import PreviewFacts

#: A step, or the beginning or end of an image, that takes longer than this, and by so many times longer than was
#: measured, counts as a hung device.
_LONGEST_TICK_SECONDS: Final = 120.0
_LONGER_THAN_MEASURED: Final = 20.0
_STEP_SECONDS: Final = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
_ROWS: Final = (1, 2, 4, 8, 16, 32, 64)
#: An image is reported as ending so long before its end, or one step where that is longer: time to have another job
#: delivered for its place in the batch.
_ENDING_SECONDS: Final = 0.02


class Drawing:
    """The tasks that are here, on ``denoiser``."""

    def __init__(
        self,
        denoiser: Denoiser,
        capacity: CallSizes,
        progress: Progress,
        *,
        on_event: Callable[[Event], None],
        high_alone: bool,
        clock: Callable[[], float],
    ) -> None:
        self._denoiser = denoiser
        self._capacity = capacity
        self._progress = progress
        self._step_batch = RecoveringStep(denoiser, capacity)
        self._batcher = Batcher(capacity.rows_at_most, clock, high_alone=high_alone)
        self._on_event = on_event
        self._clock = clock
        self._previewed: set[int] = set()
        self._last_step_seconds = math.inf
        self._undecoded = DecodeQueue(self._goes_on)
        #: A tick that takes longer than this is not only slow.
        self.longest_seconds = _LONGEST_TICK_SECONDS
        #: What a call of the denoiser and its scheduler steps take, and how many rows it has; for anybody to look at.
        self.step_seconds = Histogram(_STEP_SECONDS)
        self.rows_per_call = Histogram(_ROWS)

    @property
    def idle(self) -> bool:
        return not self._undecoded.samples and self._batcher.idle

    def show_previews(self, key: int) -> None:
        """Have the images of a task shown as they come, as often as its progress is reported; from any thread."""
        self._previewed.add(key)

    def add(self, task: Task) -> None:
        """Begin with a task; one that cannot fit fails."""
        self._progress.add(task)
        kind, rows = self._denoiser.kind_of(task.request), self._denoiser.rows_of(task.request)
        if error := _too_large(task.request, kind, self._capacity.most_pixels_for(kind)):
            self._fail(task, error)
            return
        self._batcher.add(Sample(task, index, kind, rows) for index in range(task.request.count))

    def drop_void(self, cancelled: set[int]) -> None:
        """Drop what need not be drawn any more."""
        now = self._clock()
        for task in self._progress.tasks:
            if task.key in cancelled:
                self._fail(task, Cancelled("cancelled"))
            elif task.deadline is not None and now > task.deadline:
                self._fail(task, Expired("its deadline passed before it was finished"))

    def step(self) -> None:
        """One tick: choose, denoise, decode."""
        chosen = self._batcher.next_batch()
        rows = sum(sample.rows for sample in chosen)
        expected = max((self._capacity.seconds_of(sample.kind, rows) for sample in chosen), default=0.0)
        self.longest_seconds = max(_LONGEST_TICK_SECONDS, _LONGER_THAN_MEASURED * expected)
        self._begin([sample for sample in chosen if not sample.begun])
        batch = _of_one_kind([sample for sample in chosen if self._goes_on(sample) and not sample.finished])
        if batch:
            self._report_ending(batch)
            began = self._clock()
            self._denoise(batch)
            seconds = self._last_step_seconds = self._clock() - began
            self._batcher.charge(batch, seconds)
            self.step_seconds.add(seconds)
            self.rows_per_call.add(sum(sample.rows for sample in batch))
        finished = [sample for sample in chosen if self._goes_on(sample) and sample.finished]
        self._batcher.end(finished)
        self._undecoded.samples.extend(finished)
        longest_seconds = None if self._batcher.idle else self._last_step_seconds
        if decoded := self._undecoded.take(lambda kind: self._capacity.decodes_at_most(kind, longest_seconds)):
            self._decode(decoded)

    def _report_ending(self, batch: list[Sample]) -> None:
        """Report those images of ``batch`` whose places in it will soon be free."""
        for sample in batch:
            steps = sample.steps - sample.step
            if not sample.ending and (steps <= 1 or steps * self._last_step_seconds <= _ENDING_SECONDS):
                sample.ending = True
                self._on_event(Ending(sample.task))

    def _goes_on(self, sample: Sample) -> bool:
        """Whether its task has not ended; it may have, by the fault of another of its images."""
        return sample.task.key in self._progress

    def _begin(self, samples: list[Sample]) -> None:
        """Begin images; the tasks of those that cannot be begun end."""
        if not samples:
            return
        failures = self._denoiser.begin(samples)
        for place, sample in enumerate(samples):
            if not self._goes_on(sample):
                continue
            if place in failures:
                self._fail(sample.task, failures[place])
            elif self._progress.begin(sample):
                said = tuple(f"the model cannot read the end of the prompt: {each!r}" for each in sample.unseen)
                self._on_event(Begun(sample.task, said))

    def _denoise(self, batch: list[Sample]) -> None:
        """One step of every image of ``batch``; the tasks of those that failed end."""
        before = [sample.step for sample in batch]
        failures = self._step_batch(batch)
        for place, sample in enumerate(batch):
            if not self._goes_on(sample):
                continue
            if place in failures:
                self._fail(sample.task, failures[place])
            else:
                self._report(sample, sample.step - before[place])

    def _decode(self, samples: list[Sample]) -> None:
        for sample, decoded in zip(samples, self._denoiser.finish(samples), strict=True):
            if not self._goes_on(sample):
                continue  # another image of its task has failed
            if isinstance(decoded, JobError):
                self._denoiser.free_memory()
                self._fail(sample.task, decoded)
                continue
            self._on_event(Drawn(sample.task, self._denoiser.facts(sample), decoded))
            if (engine_seconds := self._progress.draw(sample)) is not None:
                self._end(sample.task)
                self._on_event(Finished(sample.task, engine_seconds))

    def _report(self, sample: Sample, steps: int) -> None:
        """Count ``steps`` more of an image; report them, and show what there is, if it is time or was asked for."""
        task, every = sample.task, sample.task.request.preview_every
        asked = every is not None and steps > 0 and sample.step % every == 0
        if (distance := self._progress.step(sample, steps)) is not None:
            self._on_event(Stepped(task, distance.step, distance.steps))
            asked = asked or task.key in self._previewed
        if asked and not sample.finished:
            facts = PreviewFacts(id=task.request.id, index=sample.index, step=sample.step, steps=sample.steps)
            self._on_event(Previewed(task, facts, self._denoiser.preview(sample)))

    def _fail(self, task: Task, error: JobError) -> None:
        """End a task, whatever it has waiting or in flight."""
        for sample in (*self._batcher.drop(task.key), *(each for each in self._undecoded.samples if each.task is task)):
            self._denoiser.drop(sample)
        self._end(task)
        self._on_event(Failed(task, error))

    def _end(self, task: Task) -> None:
        self._progress.end(task.key)
        self._previewed.discard(task.key)


def _too_large(request: CompleteRequest, kind: Kind, most_pixels: int | None) -> TooLarge | None:
    """Why a picture that begins as ``kind`` has no room on the device, if it has none; an upscale has one in tiles."""
    drawn = kind if request.second_size is None else Kind(*request.second_size, kind.model)
    if most_pixels is None or request.type == "upscale" or drawn.pixels <= most_pixels:
        return None
    return TooLarge(f"{drawn} pixels do not fit into the device's memory; {most_pixels} may", field="width")


def _of_one_kind(samples: list[Sample]) -> list[Sample]:
    """The first of ``samples`` and those that turned out to be of its kind; the others wait for their turn."""
    return [sample for sample in samples if sample.kind == samples[0].kind]
