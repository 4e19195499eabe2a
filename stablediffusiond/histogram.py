"""How often a value was how large: what a histogram shows, as plain numbers."""

from bisect import bisect_left
from collections.abc import Sequence


class Histogram:
    """Counts values by the smallest of ``bounds`` that holds them.

    One thread adds, any may look. The engine does so at every step, so there is no lock and no allocation here.
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        #: For each of ``bounds``, and at last for what is above them all.
        self.counts = [0] * (len(self.bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value
