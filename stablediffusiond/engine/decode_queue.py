"""Images that have made their last step, and have only to be decoded."""

import itertools
from collections import deque
from collections.abc import Callable

from stablediffusiond.engine.job import Kind, Sample


class DecodeQueue:
    """In the order in which they came; those that need not be drawn any more, as ``goes_on`` tells, are passed over."""

    def __init__(self, goes_on: Callable[[Sample], bool]) -> None:
        self._goes_on = goes_on
        self.samples: deque[Sample] = deque()

    def take(self, images_at_most: Callable[[Kind], int]) -> list[Sample]:
        """The first ones that are alike: as many as are decoded at once."""
        self.samples = deque(filter(self._goes_on, self.samples))
        if not self.samples:
            return []
        first = self.samples[0]
        alike = itertools.takewhile(lambda each: _kind(each) == _kind(first), self.samples)
        return [self.samples.popleft() for _ in list(itertools.islice(alike, images_at_most(first.kind)))]


def _kind(sample: Sample) -> Kind:
    """What images have to share to be decoded in one call."""
    return sample.kind.with_structure(sample.decoding)
