"""Who steps next: the policy, without torch and without time of its own.

Before every step the images of all jobs are ranked anew, those under way and those not yet begun alike, and the
first of them step. That is all there is to admission and to pre-emption: an image that ranks higher takes the place of
one that ranks lower, which keeps its latents and goes on from the same step when its turn comes.

**Rank**: the job's priority; then what is under way before what is not begun; then jobs by turns, image by image; then
by arrival. Waiting counts: with every ``AGEING_SECONDS`` a job ranks with those one priority higher, so that low ones
are slow and never stuck.

**Kind**: images of one kind (model, size, and what else their calls have to be alike in) share a call of the denoiser,
up to as many rows as the device has a use for. Where images of the highest rank have different kinds, the kind that has
had the least of the device goes first. Of what has not begun only model and size are known: it goes with any kind that
has these.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from stablediffusiond.engine.job import Kind, Sample, Task
from stablediffusiond.messages.request import Priority

AGEING_SECONDS: Final = 60.0
RANK: Final[Mapping[Priority, int]] = {"high": 0, "normal": 1, "low": 2}


def rank(priority: Priority, waited_seconds: float) -> int:
    """The rank of a job that has been here for so long; the lowest number comes first."""
    return max(0, RANK[priority] - int(waited_seconds // AGEING_SECONDS))


class Batcher:
    """State: every image that is not finished, and what each kind has cost."""

    def __init__(
        self, rows_at_most: Callable[[Kind, int], int], clock: Callable[[], float], *, high_alone: bool = False
    ) -> None:
        """``rows_at_most`` gives the rows that a call for a kind may have, so many of them of high priority.

        With ``high_alone`` images of high priority share no call with others: they are through sooner, and cost more.
        """
        self._rows_at_most = rows_at_most
        self._clock = clock
        self._high_alone = high_alone
        self._samples: list[Sample] = []
        self._arrivals: dict[int, float] = {}
        self._cost: dict[Kind, float] = {}

    @property
    def idle(self) -> bool:
        """Whether there is nothing to step."""
        return not self._samples

    @property
    def samples(self) -> tuple[Sample, ...]:
        return tuple(self._samples)

    def add(self, samples: Iterable[Sample]) -> None:
        """Take charge of all images of a task."""
        for sample in samples:
            self._arrivals.setdefault(sample.task.key, self._clock())
            self._samples.append(sample)

    def next_batch(self) -> list[Sample]:
        """The images for the next call, the highest rank first; some may have to be begun."""
        if not self._samples:
            return []
        now = self._clock()
        classes = {sample.task.key: self._class(sample.task, now) for sample in self._samples}
        highest = min(classes.values())
        kind = self._next_kind({sample.kind for sample in self._samples if classes[sample.task.key] == highest})
        alone = self._high_alone and highest == RANK["high"]
        sharing = [
            sample
            for sample in self._samples
            if _goes_with(sample, kind) and not (alone and classes[sample.task.key] > highest)
        ]
        sharing.sort(key=lambda sample: (classes[sample.task.key], *self._turn(sample)))
        urgent_rows = sum(sample.rows for sample in sharing if sample.task.request.priority == "high")
        return _first_rows(sharing, self._rows_at_most(kind, urgent_rows))

    def charge(self, batch: list[Sample], seconds: float) -> None:
        """Account for a call: device time by kind and image, so that kinds with more images get more of it."""
        kind = batch[0].kind
        self._cost[kind] = self._cost.get(kind, 0.0) + seconds / len(batch)

    def end(self, samples: Iterable[Sample]) -> None:
        """Take images out."""
        gone = set(map(id, samples))
        self._keep(sample for sample in self._samples if id(sample) not in gone)

    def drop(self, key: int) -> list[Sample]:
        """Take a whole task out; returns its images."""
        dropped = [sample for sample in self._samples if sample.task.key == key]
        self._keep(sample for sample in self._samples if sample.task.key != key)
        return dropped

    def _class(self, task: Task, now: float) -> int:
        return rank(task.request.priority, now - self._arrivals[task.key])

    def _turn(self, sample: Sample) -> tuple[bool, int, float, int]:
        return (not sample.begun, sample.index, self._arrivals[sample.task.key], sample.task.key)

    def _next_kind(self, kinds: set[Kind]) -> Kind:
        """The one that has had the least device time an image; one that comes new begins level with the others."""
        here = {sample.kind for sample in self._samples}
        level = min((self._cost[kind] for kind in here if kind in self._cost), default=0.0)
        self._cost = {kind: self._cost.get(kind, level) for kind in here}
        begun = {kind.size for kind in kinds if kind.structure is not None}
        candidates = [kind for kind in kinds if kind.structure is not None or kind not in begun]
        return min(candidates, key=lambda kind: (self._cost[kind], str(kind)))

    def _keep(self, samples: Iterable[Sample]) -> None:
        self._samples = list(samples)
        here = {sample.task.key for sample in self._samples}
        self._arrivals = {key: since for key, since in self._arrivals.items() if key in here}


def _goes_with(sample: Sample, kind: Kind) -> bool:
    return sample.kind == kind or (not sample.begun and sample.kind == kind.size)


def _first_rows(samples: list[Sample], rows: int) -> list[Sample]:
    """As many from the front as fit into so many rows; one at least."""
    batch: list[Sample] = []
    for sample in samples:
        if batch and sample.rows > rows:
            break
        batch.append(sample)
        rows -= sample.rows
    return batch
