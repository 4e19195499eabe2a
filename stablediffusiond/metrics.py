"""Metrics for Prometheus, where the settings name a port.

The parts of a daemon count in plain attributes, whether anybody looks or not; those are read only when somebody asks,
on the daemon's loop, to which most of them belong. A thread of the library's brings them over HTTP. So nobody who draws
or streams waits for them, and without a port there is neither thread nor library.
"""

import asyncio
import contextlib
import itertools
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stablediffusiond.errors import AddressInUse
from stablediffusiond.histogram import Histogram

if TYPE_CHECKING:
    from prometheus_client import Metric as MetricFamily
    from prometheus_client.core import CollectorRegistry

log = logging.getLogger(__name__)

#: A loop that does not come to it by then is in trouble, and who asks is to see that.
_LOOP_SECONDS: Final = 10


@dataclass(frozen=True)
class CounterMetric:
    """What only grows: one number, or one for each value of ``label``."""

    name: str
    meaning: str
    value: float | Mapping[str, float]
    label: str = ""


@dataclass(frozen=True)
class GaugeMetric:
    """What is so now: one number, or one for each value of ``label``."""

    name: str
    meaning: str
    value: float | Mapping[str, float]
    label: str = ""


@dataclass(frozen=True)
class HistogramMetric:
    """How values are spread."""

    name: str
    meaning: str
    histogram: Histogram


Metric = CounterMetric | GaugeMetric | HistogramMetric


class Metrics:
    """The metrics of one daemon."""

    def __init__(self) -> None:
        #: Called for each answer, on the loop; set once there is something to tell.
        self.collect: Callable[[], Iterable[Metric]] = tuple

    async def now(self) -> "list[MetricFamily]":
        return [_family(metric) for metric in (*self.collect(), _resident_memory())]


@contextlib.asynccontextmanager
async def served(host: str, port: int, key: str) -> AsyncIterator[Metrics]:
    """Answer Prometheus on ``port``, which is ``key`` in the settings; 0: do not.

    Raises:
        AddressInUse: somebody else listens there, or it is none of this machine's addresses.
    """
    metrics = Metrics()
    if not port:
        yield metrics
        return
    from prometheus_client import start_http_server  # noqa: PLC0415 (most daemons need it not)

    try:
        server, thread = start_http_server(port, host, _registry(metrics))
    except OSError as error:
        said = f"cannot listen on {host}:{port}: {error.strerror}"
        raise AddressInUse(f"{said}; [metrics] {key} names another port, or 0 for none") from None
    log.info("metrics are at http://%s:%d/metrics", host, port)
    try:
        yield metrics
    finally:
        await asyncio.to_thread(server.shutdown)  # it looks twice a second whether it is to end
        server.server_close()
        thread.join()


def _registry(metrics: Metrics) -> "CollectorRegistry":
    from prometheus_client.core import CollectorRegistry  # noqa: PLC0415
    from prometheus_client.registry import Collector  # noqa: PLC0415

    loop = asyncio.get_running_loop()

    class MetricsCollector(Collector):
        def collect(self) -> "list[MetricFamily]":
            return asyncio.run_coroutine_threadsafe(metrics.now(), loop).result(_LOOP_SECONDS)

    registry = CollectorRegistry(support_collectors_without_names=True)
    registry.register(MetricsCollector())
    return registry


def _family(metric: Metric) -> "MetricFamily":
    from prometheus_client import core  # noqa: PLC0415

    if isinstance(metric, HistogramMetric):
        histogram = metric.histogram
        bounds = [*(str(float(bound)) for bound in histogram.bounds), "+Inf"]
        buckets = list(zip(bounds, itertools.accumulate(histogram.counts), strict=True))
        return core.HistogramMetricFamily(metric.name, metric.meaning, buckets=buckets, sum_value=histogram.total)
    family = core.CounterMetricFamily if isinstance(metric, CounterMetric) else core.GaugeMetricFamily
    if not isinstance(metric.value, Mapping):
        return family(metric.name, metric.meaning, value=metric.value)
    labelled = family(metric.name, metric.meaning, labels=[metric.label])
    for name, value in metric.value.items():
        labelled.add_metric([name], value)
    return labelled


def _resident_memory() -> GaugeMetric:
    """Under the name that Prometheus's own libraries give it."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return GaugeMetric("process_resident_memory_bytes", "Resident memory", pages * os.sysconf("SC_PAGE_SIZE"))
