"""A bound on lines of the log that any client can cause: a flood of them would push out all others."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

_INTERVAL_SECONDS: Final = 10.0


@dataclass
class _Interval:
    began: float
    records: int = 0


class LogLimit(logging.Filter):
    """Lets so many records of one wording through in ten seconds; the first one afterwards says how many it did not."""

    def __init__(self, most: int = 10, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._most = most
        self._now = now
        self._intervals: dict[str, _Interval] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        interval = self._intervals.setdefault(str(record.msg), _Interval(self._now()))
        if self._now() - interval.began >= _INTERVAL_SECONDS:
            left_out = interval.records - self._most
            interval.began, interval.records = self._now(), 0
            if left_out > 0:
                record.msg = f"{record.msg} (and {left_out} times before)"
        interval.records += 1
        return interval.records <= self._most
