"""A step of a batch that survives failures: fewer rows where memory ends, one image at a time where the call fails."""

import logging
from collections.abc import Sequence

from stablediffusiond.engine.capacity import CallSizes
from stablediffusiond.engine.device import Denoiser
from stablediffusiond.engine.job import Sample
from stablediffusiond.errors import JobError, OutOfMemory

log = logging.getLogger(__name__)


class RecoveringStep:
    """Steps batches on ``denoiser``, and teaches ``capacity`` how many rows do not fit."""

    def __init__(self, denoiser: Denoiser, capacity: CallSizes) -> None:
        self._denoiser = denoiser
        self._capacity = capacity

    def __call__(self, batch: Sequence[Sample]) -> dict[int, JobError]:
        """One step of every image of ``batch``; those that failed, by their place, have made none.

        If the call fails as a whole each image is tried alone, so that only those fail that fail alone. Of a task that
        has failed so the other images are not tried: they fail with it.
        """
        try:
            return self._call(batch)
        except JobError as error:
            if len(batch) == 1:
                return {0: error}
            log.warning("a call for %d images failed (%s); each is tried alone", len(batch), error)
        failures: dict[int, JobError] = {}
        failed_tasks: dict[int, JobError] = {}
        for place, sample in enumerate(batch):
            key = sample.task.key
            if key not in failed_tasks and (failed := self([sample])):
                failed_tasks[key] = failed[0]
            if key in failed_tasks:
                failures[place] = failed_tasks[key]
        return failures

    def _call(self, batch: Sequence[Sample]) -> dict[int, JobError]:
        """As one call; where memory ends in calls of half the rows, down to one."""
        kind, rows = batch[0].kind, sum(sample.rows for sample in batch)
        while True:
            rows_at_once = self._capacity.rows_at_most(kind)
            try:
                return self._denoiser.step(batch, rows_at_once)
            except OutOfMemory:
                self._denoiser.free_memory()
                if min(rows, rows_at_once) == 1:
                    self._capacity.forget(kind)
                    raise
                self._capacity.learn_too_many(kind, min(rows, rows_at_once))
