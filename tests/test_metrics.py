"""Figures over HTTP, in this process."""

import asyncio
import socket
import threading
import urllib.request

import pytest

from stablediffusiond.errors import SettingsError
from stablediffusiond.histogram import Histogram
from stablediffusiond.metrics import CounterMetric, GaugeMetric, HistogramMetric, served


def read(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as answer:
        text: str = answer.read().decode()
        return text


async def test_what_the_parts_count_is_told_when_somebody_asks(free_port: int) -> None:
    before = set(threading.enumerate())
    spread = Histogram((0.1, 1))
    async with served("127.0.0.1", free_port, "port") as metrics:
        assert "process_resident_memory_bytes" in await asyncio.to_thread(read, free_port)
        metrics.collect = lambda: [
            CounterMetric("jobs", "Jobs", {"done": 3, "expired": 1}, "outcome"),
            GaugeMetric("paused", "Paused", value=True),
            HistogramMetric("seconds", "Seconds", spread),
        ]
        for value in (0.1, 0.5, 0.7, 4):
            spread.add(value)
        lines = (await asyncio.to_thread(read, free_port)).splitlines()
    for line in (
        "# HELP jobs_total Jobs", "# TYPE jobs_total counter", 'jobs_total{outcome="done"} 3.0', "paused 1.0",
        'seconds_bucket{le="0.1"} 1.0', 'seconds_bucket{le="1.0"} 3.0', 'seconds_bucket{le="+Inf"} 4.0',
        "seconds_count 4.0", "seconds_sum 5.3",
    ):  # fmt: skip
        assert line in lines
    pool = {thread for thread in threading.enumerate() if thread.name.startswith("asyncio")}
    assert set(threading.enumerate()) - pool == before - pool
    with socket.create_server(("127.0.0.1", free_port)):
        pass  # the port is free again


async def test_without_a_port_nobody_listens() -> None:
    before = threading.active_count()
    async with served("127.0.0.1", 0, "port"):
        assert threading.active_count() == before


@pytest.mark.parametrize("host", ["127.0.0.1", "192.0.2.1"])
async def test_a_place_that_cannot_be_had_is_an_error_that_names_the_key(host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=rf"{host}:{port}: .*\[metrics\] responses_port"):
            async with served(host, port, "responses_port"):
                pass
