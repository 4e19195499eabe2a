"""Queues that take no messages, so that what is published to others does not wait behind them.

A queue that exists takes nothing while it is full, and while it has no leader; then the broker refuses what is
published to it, or gives no answer at all. A queue is without a leader for seconds while a cluster elects one, and for
good if RabbitMQ 3.10 was killed less than a second after the queue was declared.
"""

import asyncio
import time
from typing import Final

#: Of what is published to a queue that was given up, one message tries so often whether it is back.
_PROBE_SECONDS: Final = 10.0


class UnavailableQueue:
    """Made when a queue has not taken a message, and forgotten when it takes one."""

    def __init__(self) -> None:
        #: Who publishes to it takes turns.
        self.turn = asyncio.Lock()
        #: The broker's reason, if it refuses.
        self.refusal: str | None = None
        #: It has taken nothing for too long; publishes to it fail.
        self.given_up = False
        self._tried_at = self._since = time.monotonic()

    def not_taken(self, refusal: str | None) -> None:
        """It has not taken another one."""
        self.refusal = refusal
        self._tried_at = time.monotonic()

    def count_from_now(self) -> None:
        """What was until now is not the queue's fault."""
        self._since = time.monotonic()
        self.given_up = False

    @property
    def seconds(self) -> float:
        """How long it has taken nothing."""
        return time.monotonic() - self._since

    @property
    def was_tried_lately(self) -> bool:
        return time.monotonic() - self._tried_at < _PROBE_SECONDS
