"""What the request daemon tells Prometheus; each is explained in docs/operations.md."""

from collections import Counter
from collections.abc import Iterator
from typing import Final, get_args

from stablediffusiond.broker.link import Link
from stablediffusiond.broker.publisher import Publisher
from stablediffusiond.engine.engine import Engine
from stablediffusiond.messages.status import JobState
from stablediffusiond.metrics import CounterMetric, GaugeMetric, HistogramMetric, Metric
from stablediffusiond.requestd.counters import Counters
from stablediffusiond.requestd.model_set import ModelSet
from stablediffusiond.requestd.status_report import StatusReport

_NAME: Final = "stablediffusiond"


class RequestMetrics:
    """Looks at the parts when asked."""

    def __init__(
        self,
        *,
        report: StatusReport,
        counters: Counters,
        engine: Engine,
        models: ModelSet,
        publisher: Publisher,
        consume_link: Link,
        publish_link: Link,
    ) -> None:
        self._report = report
        self._counters = counters
        self._engine = engine
        self._models = models
        self._publisher = publisher
        self._links = {"jobs": consume_link, "replies": publish_link}

    def __call__(self) -> Iterator[Metric]:
        status = self._report.full()
        states: dict[str, float] = dict.fromkeys(get_args(JobState), 0)
        states |= Counter(job.state for job in status.jobs)
        reconnects = {name: link.reconnects for name, link in self._links.items()}
        yield CounterMetric(f"{_NAME}_jobs", "Jobs that have ended, by how", self._counters.outcomes, "outcome")
        yield CounterMetric(f"{_NAME}_images", "Pictures published", self._counters.images)
        yield GaugeMetric(f"{_NAME}_jobs_in_hand", "Jobs that were delivered and have not ended", states, "state")
        yield GaugeMetric(f"{_NAME}_paused", "1 while no step is made", status.paused is not None)
        yield CounterMetric(f"{_NAME}_model_loads", "Loads of models that were begun", self._models.loads, "model")
        resident = {model.name: float(model.nbytes or 0) for model in status.models if model.state == "resident"}
        yield GaugeMetric(f"{_NAME}_model_bytes", "Weights of the models on the device", resident, "model")
        away = {model.name: float(model.host_bytes) for model in status.models if model.host_bytes}
        yield GaugeMetric(f"{_NAME}_model_host_bytes", "Weights of models in host memory", away, "model")
        waiting: dict[str, float] = {model.name: model.waiting for model in status.models}
        yield GaugeMetric(f"{_NAME}_model_jobs_waiting", "Jobs that wait for their model here", waiting, "model")
        yield HistogramMetric(
            f"{_NAME}_step_seconds", "One call of the denoiser and its scheduler steps", self._engine.step_seconds
        )
        yield HistogramMetric(f"{_NAME}_rows_per_call", "Rows of such a call", self._engine.rows_per_call)
        yield HistogramMetric(f"{_NAME}_queued_seconds", "From publication to delivery", self._counters.queued_seconds)
        yield HistogramMetric(f"{_NAME}_publish_seconds", "From a publish to its confirm", self._publisher.seconds)
        yield CounterMetric(f"{_NAME}_reconnects", "Connections made anew", reconnects, "link")
        if status.device_memory_bytes is not None:
            yield GaugeMetric(f"{_NAME}_device_memory_bytes", "Held on the device", status.device_memory_bytes)
