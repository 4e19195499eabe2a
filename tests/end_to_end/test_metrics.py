"""What both daemons tell Prometheus."""

import re
import socket
import uuid

import pytest

from stablediffusiond.broker.topology import Topology
from stablediffusiond.client import Client, Done
from stablediffusiond.settings import Settings
from tests.end_to_end.conftest import CHECKOUT, Operated, environment_of
from tests.preloaded import Preloaded, response_daemon
from tests.test_metrics import read
from tools.daemons import DaemonFailed
from tools.private_broker import PrivateBroker


def told(port: int) -> dict[str, float]:
    return {name: float(value) for name, value in re.findall(r"^([a-z]\S+) (\S+)$", read(port), re.M)}


def test_figures_follow_the_jobs(operated: Operated, free_port: int) -> None:
    environment = environment_of(operated.broker.url, operated.topology)
    before = told(operated.metrics_port)
    with response_daemon({**environment, "STABLEDIFFUSIOND_METRICS__RESPONSES_PORT": str(free_port)}) as responsed:
        responses = {"host": "127.0.0.1", "port": responsed.wait_ready().port()}
        settings = operated.settings.model_dump(exclude={"responses", "broker"})
        with Client(
            Settings.model_validate({**settings, "broker": {"url": operated.broker.url}, "responses": responses})
        ) as client:
            job = client.submit(prompt="cat", steps=4, count=2)
            assert isinstance(list(job.events(timeout_seconds=20))[-1], Done)
            assert told(free_port)["stablediffusion_responsed_connections"] == 1
        after, streamed = told(operated.metrics_port), told(free_port)

    def more(name: str) -> float:
        return after[f"stablediffusiond_{name}"] - before.get(f"stablediffusiond_{name}", 0)

    assert (more('jobs_total{outcome="done"}'), more("images_total")) == (1, 2)
    assert (more("step_seconds_count"), more('rows_per_call_bucket{le="4.0"}'), more("rows_per_call_sum")) == (4, 4, 16)
    assert more("step_seconds_sum") >= 4 * 0.02
    assert (more("queued_seconds_count"), more("publish_seconds_count")) == (1, 3)
    assert after["stablediffusiond_paused"] == after['stablediffusiond_jobs_in_hand{state="drawing"}'] == 0
    assert after['stablediffusiond_reconnects_total{link="jobs"}'] == 0
    assert streamed['stablediffusion_responsed_replies_total{type="image"}'] == 2
    assert streamed['stablediffusion_responsed_replies_total{type="done"}'] == 1
    assert streamed["process_resident_memory_bytes"] > 1e6


def test_each_figure_is_explained(operated: Operated, free_port: int) -> None:
    names = set(re.findall(r"^# TYPE (\w+)", read(operated.metrics_port), re.M))
    environment = environment_of(operated.broker.url, operated.topology)
    with response_daemon({**environment, "STABLEDIFFUSIOND_METRICS__RESPONSES_PORT": str(free_port)}) as responsed:
        responsed.wait_ready()
        names |= set(re.findall(r"^# TYPE (\w+)", read(free_port), re.M))
    assert len(names) >= 14
    text = (CHECKOUT / "docs/operations.md").read_text()
    assert [name for name in names if f"`{name}`" not in text] == []


@pytest.mark.parametrize("module", ["tests.requestd.faked", "stablediffusiond.responsed.daemon"])
def test_a_port_that_is_taken_ends_a_daemon_that_is_not_restarted(broker: PrivateBroker, module: str) -> None:
    name = uuid.uuid4().hex[:8]
    key = "PORT" if "requestd" in module else "RESPONSES_PORT"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        environment = {
            **environment_of(broker.url, Topology(f"requests-{name}", f"results-{name}")),
            f"STABLEDIFFUSIOND_METRICS__{key}": str(taken.getsockname()[1]),
        }
        with Preloaded(module, environment) as daemon:
            with pytest.raises(DaemonFailed, match=rf"\[metrics\] {key.lower()} names another port"):
                daemon.wait_ready()
            assert daemon.process.returncode == 78
