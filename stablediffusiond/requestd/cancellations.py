"""Which jobs were cancelled before they came."""

from collections import OrderedDict
from datetime import UTC, datetime
from typing import Final

_REMEMBERED: Final = 10_000


class Cancellations:
    """The last ten thousand cancelled ids, each with the moment it was cancelled.

    A job that was published later than its id was cancelled is another job, sent again by somebody who changed their
    mind; AMQP's timestamps are whole seconds, so the same second counts as before.
    """

    def __init__(self) -> None:
        self._moments: OrderedDict[str, datetime] = OrderedDict()

    def add(self, job_id: str) -> None:
        self._moments[job_id] = datetime.now(UTC)
        self._moments.move_to_end(job_id)
        if len(self._moments) > _REMEMBERED:
            self._moments.popitem(last=False)

    def cover(self, job_id: str, published_at: datetime | None) -> bool:
        """Whether the job ``job_id``, published at that moment, was cancelled."""
        moment = self._moments.get(job_id)
        return moment is not None and (published_at is None or published_at <= moment)
