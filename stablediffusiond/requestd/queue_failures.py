"""Which queue it is whose consumers end every connection: one that has no leader. The log names it once."""

import contextlib
import logging
from collections.abc import Iterator
from typing import Final

from stablediffusiond.errors import BrokerError

log = logging.getLogger(__name__)

#: So many connections in turn are not lost at the same queue by chance.
_OFTEN: Final = 3


class QueueFailures:
    """Counts over all connections of a daemon."""

    def __init__(self) -> None:
        self._queue = ""
        self._times = 0

    @contextlib.contextmanager
    def of(self, queue: str) -> Iterator[None]:
        """What is done here is done with ``queue``."""
        try:
            yield
        except BrokerError as error:
            self._times = self._times + 1 if queue == self._queue else 1
            self._queue = queue
            if self._times == _OFTEN:
                log.error("%s cannot be consumed: %s; trying on", queue, error)  # noqa: TRY400 (raised once more)
            raise
        if queue == self._queue:
            self._queue = ""
