"""How many finished pictures are decoded in one call: as many as is faster, and no more than others may wait for."""

from collections.abc import Mapping

from stablediffusiond.engine.job import Kind

#: Two pictures at once have to take so much less time each, or there is no gain in it.
_WORTHWHILE = 0.92


class DecodeCapacity:
    """What follows from the seconds that so many pictures of the kind ``own`` take at once, ``table``."""

    def __init__(self, own: Kind, table: Mapping[int, float]) -> None:
        self._own = own
        self._table = dict(table) or {1: 0.0}
        best = self._table[min(self._table)]
        #: Numbers of pictures that take less time each than any smaller number does.
        self._faster: list[int] = []
        for images, seconds in sorted(self._table.items()):
            if not self._faster or seconds / images <= _WORTHWHILE * best:
                self._faster.append(images)
                best = seconds / images

    def images_at_most(self, kind: Kind, longest_seconds: float | None) -> int:
        """At least 1. ``longest_seconds``, if somebody waits meanwhile, is what a call may take that has several."""
        larger = max(1.0, kind.pixels / self._own.pixels)
        allowed = [
            images for images in self._faster if longest_seconds is None or self._table[images] <= longest_seconds
        ]
        return max(1, int(max(allowed, default=1) / larger))
