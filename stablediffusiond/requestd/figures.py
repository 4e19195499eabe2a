"""What the request daemon tells Prometheus; each is explained in docs/operations.md."""

from collections import Counter as Count
from collections.abc import Iterator
from typing import Final, get_args

from stablediffusiond.broker.link import Link
from stablediffusiond.broker.publisher import Publisher
from stablediffusiond.engine.engine import Engine
from stablediffusiond.messages.status import JobState
from stablediffusiond.metrics import Counter, Figure, Gauge, Histogram
from stablediffusiond.requestd.report import Report
from stablediffusiond.requestd.tally import Tally

_NAME: Final = "stablediffusiond"


class Figures:
    """Looks at the parts when asked."""

    def __init__(
        self, *, report: Report, tally: Tally, engine: Engine, publisher: Publisher, inlet: Link, outlet: Link
    ) -> None:
        self._report = report
        self._tally = tally
        self._engine = engine
        self._publisher = publisher
        self._links = {"jobs": inlet, "replies": outlet}

    def __call__(self) -> Iterator[Figure]:
        status = self._report.full()
        states: dict[str, float] = dict.fromkeys(get_args(JobState), 0)
        states |= Count(job.state for job in status.jobs)
        reconnects = {name: link.reconnects for name, link in self._links.items()}
        yield Counter(f"{_NAME}_jobs", "Jobs that have ended, by how", self._tally.outcomes, "outcome")
        yield Counter(f"{_NAME}_images", "Pictures published", self._tally.images)
        yield Gauge(f"{_NAME}_jobs_in_hand", "Jobs that were delivered and have not ended", states, "state")
        yield Gauge(f"{_NAME}_paused", "1 while no step is made", status.paused is not None)
        yield Histogram(f"{_NAME}_step_seconds", "One UNet call and its scheduler steps", self._engine.step_seconds)
        yield Histogram(f"{_NAME}_rows_per_call", "Rows of a UNet call", self._engine.rows_per_call)
        yield Histogram(f"{_NAME}_queued_seconds", "From publication to delivery", self._tally.queued_seconds)
        yield Histogram(f"{_NAME}_publish_seconds", "From a publish to its confirm", self._publisher.seconds)
        yield Counter(f"{_NAME}_reconnects", "Connections made anew", reconnects, "link")
        if status.device_memory_bytes is not None:
            yield Gauge(f"{_NAME}_device_memory_bytes", "Held on the device", status.device_memory_bytes)
