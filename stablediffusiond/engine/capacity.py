"""How many rows a call of the denoiser may have, by kind: measured, set, and learnt from running out of memory."""

import contextlib
import logging
import time
from collections.abc import Callable
from typing import Final, Protocol

from stablediffusiond.engine.decode_capacity import DecodeCapacity
from stablediffusiond.engine.job import Kind
from stablediffusiond.errors import OutOfMemory
from stablediffusiond.messages.request import Request

log = logging.getLogger(__name__)

#: Under guidance, as most are drawn.
ROWS_OF_ONE_IMAGE: Final = 2
_MOST_ROWS: Final = 64
#: Pictures that are decoded at once: each takes the memory of some hundred megabytes meanwhile.
_MOST_DECODES: Final = 8
#: Of what takes so long already, more rows are not tried: every job would wait for such a call.
_LONGEST_CALL_SECONDS: Final = 5.0
#: Twice the rows have to bring so much more throughput, or the search ends.
_WORTHWHILE: Final = 1.08
#: Of two row counts that are about as good the smaller one is taken: it keeps nobody waiting for a longer call.
_ABOUT_AS_GOOD: Final = 0.95
#: What is urgent may take so many times as long with others in its call as alone.
_SLOWER_AT_MOST: Final = 2.0
#: After so long what did not fit is tried again: whoever else had the memory may have given it back.
_LEARNT_SECONDS: Final = 600.0


class CallSizes(Protocol):
    """What the engine asks before its calls: of one model, or of several."""

    def rows_at_most(self, kind: Kind, urgent_rows: int = 0) -> int: ...
    def seconds_of(self, kind: Kind, rows: int) -> float: ...
    def learn_too_many(self, kind: Kind, rows: int) -> None: ...
    def forget(self, kind: Kind) -> None: ...
    def most_pixels_for(self, kind: Kind) -> int | None: ...
    def decodes_at_most(self, kind: Kind, longest_seconds: float | None) -> int: ...


class Measured(Protocol):
    """What can be found out about a device before its first job."""

    def kind_of(self, request: Request) -> Kind: ...
    def time_rows(self, rows: int) -> float: ...
    def time_decodes(self, images: int) -> float: ...
    def most_pixels(self) -> int | None: ...


def warm_up(device: Measured, images: int | None) -> "Capacity":
    """Measure ``device``, which also brings it up to speed; ``images``, if set, is what one call shall have."""
    own = device.kind_of(Request(prompt=""))
    table = measure(device.time_rows)
    most_pixels = device.most_pixels()
    decodes = measure(device.time_decodes, _MOST_DECODES)
    capacity = Capacity(own, table, images, most_pixels, decodes=decodes)
    log.info("a call at %s takes, by its rows, %s; up to %d rows step together", own, _said(table), capacity.rows)
    log.info("decoding takes, by pictures, %s", _said(decodes))
    return capacity


def warm_up_again(device: Measured) -> None:
    """Bring ``device`` up to speed, whose capacity is known since a model like it was measured before."""
    device.time_rows(ROWS_OF_ONE_IMAGE)


def _said(table: dict[int, float]) -> str:
    return ", ".join(f"{number}: {seconds * 1000:.3g} ms" for number, seconds in table.items())


def measure(time_rows: Callable[[int], float], most: int = _MOST_ROWS) -> dict[int, float]:
    """Seconds of a call with 1, 2, 4, 8, … rows, until more rows bring no more rows a second, or memory ends.

    ``time_rows(rows)`` gives the seconds of one call, or raises OutOfMemory.
    """
    table: dict[int, float] = {}
    rows = 1
    with contextlib.suppress(OutOfMemory):
        while rows <= most:
            table[rows] = time_rows(rows)
            if table[rows] > _LONGEST_CALL_SECONDS:
                break
            if not _worthwhile(table, rows):
                for again in (rows // 2, rows):  # something else may have used the machine
                    table[again] = min(table[again], time_rows(again))
                if not _worthwhile(table, rows):
                    break
            rows *= 2
    return table


def _worthwhile(table: dict[int, float], rows: int) -> bool:
    """Whether ``rows`` rows bring more than half of them."""
    return rows == 1 or rows / table[rows] >= _WORTHWHILE * (rows // 2) / table[rows // 2]


def best_rows(table: dict[int, float]) -> int:
    """The row count with the most throughput."""
    most = max(rows / seconds for rows, seconds in table.items())
    return min(rows for rows, seconds in table.items() if rows / seconds >= _ABOUT_AS_GOOD * most)


class Capacity:
    """Rows at most, by kind: a larger picture has room for fewer."""

    def __init__(
        self,
        own: Kind,
        table: dict[int, float],
        images: int | None = None,
        most_pixels: int | None = None,
        *,
        decodes: dict[int, float] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``table`` was measured at the kind ``own``; ``images``, if set, overrides what follows from it.

        Two rows are reckoned for an image, as under guidance. ``most_pixels`` is what one image may have; ``decodes``
        are the seconds in which so many are decoded at once.
        """
        self.own = own
        self.table = table
        self.rows = 2 * images if images is not None else max(2, best_rows(table))
        self.most_pixels = most_pixels
        self.decodes = DecodeCapacity(own, decodes or {})
        self._clock = clock
        self._learnt: dict[Kind, tuple[int, float]] = {}  #: rows, and until when

    @property
    def images(self) -> int:
        """Images of the model's own size, under guidance, that step together."""
        return max(1, self.rows // 2)

    def rows_at_most(self, kind: Kind, urgent_rows: int = 0) -> int:
        """At least 1; fewer where some rows are urgent, which others may slow down only so far."""
        rows = self._rows_beside(urgent_rows) if urgent_rows else self.rows
        scaled = max(1, rows * self.own.pixels // kind.pixels)
        learnt, until = self._learnt.get(kind.size, (scaled, 0.0))
        return min(scaled, learnt) if self._clock() < until else scaled

    def most_pixels_for(self, kind: Kind) -> int | None:
        """What one image may have; None where that cannot be told."""
        del kind
        return self.most_pixels

    def decodes_at_most(self, kind: Kind, longest_seconds: float | None) -> int:
        """Pictures that are decoded at once: see ``DecodeCapacity``."""
        return self.decodes.images_at_most(kind, longest_seconds)

    def seconds_of(self, kind: Kind, rows: int) -> float:
        """What a call takes at most, by what was measured: attention may grow with the square of the pixels."""
        measured = min((each for each in self.table if each >= rows), default=max(self.table))
        seconds = self.table[measured] * max(1.0, rows / measured)
        return seconds * max(1.0, kind.pixels / self.own.pixels) ** 2

    def _rows_beside(self, urgent_rows: int) -> int:
        if urgent_rows >= self.rows:
            return self.rows
        alone = min(seconds for rows, seconds in self.table.items() if rows >= min(urgent_rows, max(self.table)))
        quick = [rows for rows, seconds in self.table.items() if seconds <= _SLOWER_AT_MOST * alone]
        return min(self.rows, max(urgent_rows, *quick))

    def learn_too_many(self, kind: Kind, rows: int) -> None:
        """A call of ``rows`` rows did not fit."""
        fewer = max(1, min(rows // 2, self.rows_at_most(kind)))
        self._learnt[kind.size] = (fewer, self._clock() + _LEARNT_SECONDS)
        log.warning("%s: %d rows do not fit into memory; for ten minutes at most %d", kind, rows, fewer)

    def forget(self, kind: Kind) -> None:
        """Not even one row did fit, so that it was not for their number."""
        self._learnt.pop(kind.size, None)
