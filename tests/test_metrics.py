"""Figures over HTTP, in this process."""

import asyncio
import socket
import threading
import urllib.request

import pytest

from stablediffusiond.errors import SettingsError
from stablediffusiond.histogram import Histogram
from stablediffusiond.metrics import CounterMetric, GaugeMetric, HistogramMetric, served
from stablediffusiond.settings import MetricsSettings


def read(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as answer:
        text: str = answer.read().decode()
        return text


async def test_what_the_parts_count_is_told_when_somebody_asks(free_port: int) -> None:
    spread = Histogram((0.1, 1))
    async with served(MetricsSettings(port=free_port), "port") as metrics:
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
    with socket.create_server(("127.0.0.1", free_port)):
        pass  # the port is free again


async def test_prometheus_gets_the_form_it_asks_for(free_port: int) -> None:
    def read_openmetrics() -> str:
        asked = urllib.request.Request(f"http://localhost:{free_port}/metrics")
        asked.add_header("Accept", "application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
        with urllib.request.urlopen(asked, timeout=20) as answer:
            assert answer.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
            text: str = answer.read().decode()
            return text

    async with served(MetricsSettings(port=free_port), "port"):
        assert (await asyncio.to_thread(read_openmetrics)).endswith("# EOF\n")


@pytest.mark.parametrize("accept", ["application/openmetrics-text;version=x", "text/plain;version=x;escaping=y", ";;,=\xff"])
async def test_a_form_that_makes_no_sense_is_the_plain_one(free_port: int, accept: str) -> None:
    async with served(MetricsSettings(port=free_port), "port"):
        reader, writer = await asyncio.open_connection("127.0.0.1", free_port)
        writer.write(f"GET /metrics HTTP/1.0\r\nAccept: {accept}\r\n\r\n".encode("latin-1"))
        answer = await reader.read()
        writer.close()
    assert answer.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4")


async def test_without_a_port_nobody_listens() -> None:
    before = threading.active_count()
    async with served(MetricsSettings(), "port"):
        assert threading.active_count() == before


@pytest.mark.parametrize("host", ["127.0.0.1", "192.0.2.1"])
async def test_a_place_that_cannot_be_had_is_an_error_that_names_the_key(host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=rf"{host}:{port}: .*\[metrics\] responses_port"):
            async with served(MetricsSettings(host=host, responses_port=port), "responses_port"):
                pass
