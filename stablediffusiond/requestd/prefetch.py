"""Whether another job is taken from its queue: the policy, without broker, engine or clock.

RabbitMQ's prefetch counts messages. A job has one image or sixteen, small or large, of few steps or many, and only its
body says so: a daemon that consumes with a prefetch of ten may hold a hundred and sixty images while another is idle.
So a job is taken only if its first image would be in the next call of the denoiser for its size, and the next job only
when this one has been read:

- The batch has room: the images that still need a place take less than all of it. An image that is about to make its
  last step needs none any more, so the job that takes its place is delivered by then.
- Each size that is here has room in its own call of the denoiser for one image more. A job of another size takes turns
  with them.
- Only what ranks as high or higher counts: a job of high priority steps at once, whatever else is here.

The size of the next job is not known before it is delivered. Where it is another than expected, that one job waits, and
no further one is taken.
"""

from collections.abc import Collection
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

from stablediffusiond.engine.batcher import RANK
from stablediffusiond.engine.job import Kind
from stablediffusiond.messages.request import Priority


@dataclass(frozen=True)
class UnfinishedJob:
    """A job that was delivered, and has images that still need a place in the batch."""

    rank: int  #: the batcher's
    urgent: bool  #: of high priority
    kind: Kind
    rows: int  #: of one image in a call of the denoiser
    images: int  #: that need a place in the batch, now or later
    begun: bool


class BatchSize(Protocol):
    """How large a call of the denoiser may be."""

    def rows_at_most(self, kind: Kind, urgent_rows: int) -> int: ...


class PrefetchPolicy:
    """Looks at the unfinished jobs, and decides."""

    def __init__(self, batch_size: BatchSize, *, high_alone: bool) -> None:
        self._batch_size = batch_size
        self._high_alone = high_alone

    def may_take(self, priority: Priority, jobs: Collection[UnfinishedJob], own: Kind | None) -> bool:
        """Whether a job from a queue of ``priority`` would begin at once beside ``jobs``.

        ``own`` is the own size of the model that it would be drawn with, which most jobs have.
        """
        before = [job for job in jobs if job.rank <= RANK[priority]]
        if not before:
            return True
        return self._would_share_calls(priority, before, own) and self._has_room(priority, before)

    def _would_share_calls(self, priority: Priority, before: list[UnfinishedJob], own: Kind | None) -> bool:
        """Whether call of the denoisers are made in which a job of ``priority`` may have a place.

        Calls are made only for the sizes of the highest rank; what ranks lower has a place beside images of its size.
        """
        highest = min(job.rank for job in before)
        if highest == RANK[priority]:
            return True
        kinds = {job.kind for job in before if job.rank == highest}
        if own not in kinds or (self._high_alone and highest == RANK["high"]):
            return False
        return all(job.begun or job.kind in kinds for job in before)

    def _has_room(self, priority: Priority, before: list[UnfinishedJob]) -> bool:
        used = Fraction(0)
        for kind in {job.kind for job in before}:
            sharing = [job for job in before if job.kind == kind]
            rows = sum(job.images * job.rows for job in sharing)
            more = max(job.rows for job in sharing)  # the next job is expected to be like those that are here
            urgent_rows = sum(job.images * job.rows for job in sharing if job.urgent)
            if priority == "high":
                urgent_rows += more
            rows_at_most = self._batch_size.rows_at_most(kind, urgent_rows)
            if rows + more > rows_at_most:
                return False
            used += Fraction(rows, rows_at_most)
        return used < 1
