"""Metrics for Prometheus, where the settings name a port.

The parts of a daemon count in plain attributes, with or without a port; those are read only when a page is asked for,
on the daemon's loop, to which most of them belong. Without a port the library is not even loaded.
"""

import contextlib
import itertools
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from stablediffusiond import sandbox
from stablediffusiond.addresses import bind
from stablediffusiond.histogram import Histogram
from stablediffusiond.metrics_server import MetricsServer, Page
from stablediffusiond.settings import MetricsSettings

if TYPE_CHECKING:
    from prometheus_client import Metric as MetricFamily

log = logging.getLogger(__name__)


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

    def now(self) -> "list[MetricFamily]":
        return [_family(metric) for metric in (*self.collect(), _resident_memory())]


@contextlib.asynccontextmanager
async def served(settings: MetricsSettings, key: Literal["port", "responses_port"]) -> AsyncIterator[Metrics]:
    """Answer Prometheus on the port that is ``key`` in the settings; 0: do not.

    Raises:
        AddressInUse: another process listens there, or it is none of this machine's addresses.
    """
    metrics = Metrics()
    port = getattr(settings, key)
    if not port:
        yield metrics
        return
    sockets = await bind("metrics", settings.host, port, f"[metrics] {key} names another port, or 0 for none")
    server = MetricsServer(_page(metrics), [settings.host, *settings.allowed_hosts])
    await server.listen(sockets)
    log.info("metrics are at http://%s:%d/metrics", settings.host, port)
    if (closed := sandbox.closed_from(settings.host)) is not None:
        log.info("metrics: %s", closed)
    try:
        yield metrics
    finally:
        await server.close()


def _page(metrics: Metrics) -> Page:
    from prometheus_client.exposition import choose_encoder  # noqa: PLC0415 (most daemons need it not)

    async def page(accept: str) -> tuple[str, bytes]:
        try:
            encode, content_type = choose_encoder(accept)
        except (TypeError, ValueError):  # the library compares versions, and takes any text for one
            encode, content_type = choose_encoder("")
        return content_type, encode(_Collected(metrics.now()))

    return page


@dataclass(frozen=True)
class _Collected:
    """A registry, for the library: what was collected for one page."""

    families: "list[MetricFamily]"

    def collect(self) -> "list[MetricFamily]":
        return self.families


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
