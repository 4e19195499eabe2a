"""Daemons are killed in the middle of things, and nothing is lost."""

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest

from stablediffusiond.broker.connection import Connection
from stablediffusiond.broker.message import Message
from stablediffusiond.broker.topology import REQUEST_DELIVERY_LIMIT, Topology
from stablediffusiond.client import Client, Done, Failed, Image
from stablediffusiond.settings import BrokerSettings, Settings
from tests.preloaded import Preloaded, request_daemon, response_daemon
from tools.daemons import Daemon
from tools.private_broker import PrivateBroker

LONG = {"prompt": "a red cat", "seed": 42, "steps": 60}


@pytest.fixture
def responsed(environment: dict[str, str]) -> Iterator[Daemon]:
    with response_daemon(environment) as daemon:
        yield daemon.wait_ready()


@pytest.fixture
def client(broker: PrivateBroker, topology: Topology, responsed: Daemon) -> Iterator[Client]:
    settings = Settings.model_validate(
        {
            "broker": {"url": broker.url},
            "queues": {"requests": topology.requests, "results": topology.results},
            "responses": {"host": "127.0.0.1", "port": responsed.port()},
        }
    )
    with Client(settings) as made:
        yield made


def picture(events: list[object]) -> bytes:
    [image] = [event for event in events if isinstance(event, Image)]
    assert isinstance(events[-1], Done)
    return image.data


async def head_of(queue: str, broker: PrivateBroker) -> Message | None:
    connection = await Connection.open(BrokerSettings.model_validate({"url": broker.url}), "test")
    delivery = await (await connection.channel()).get(queue)
    await connection.close()
    return delivery.message if delivery else None


def test_a_job_whose_daemon_was_killed_is_drawn_by_the_next_one_and_looks_the_same(
    environment: dict[str, str], client: Client
) -> None:
    with request_daemon(environment) as first:
        first.wait_ready()
        undisturbed = picture(list(client.submit(LONG).events(timeout_seconds=120)))
        job = client.submit(LONG)
        first.wait_log(f"job {job.id} begins")
        first.kill()
    with request_daemon(environment) as second:
        second.wait_ready()
        again = picture(list(job.events(timeout_seconds=120)))
        second.wait_log(f"{job.id} was delivered 1 times before; it is drawn alone")
    assert again == undisturbed


def test_a_job_that_kills_every_daemon_is_given_up_and_its_client_is_told(
    environment: dict[str, str], client: Client, broker: PrivateBroker, topology: Topology
) -> None:
    def without_a_model() -> Daemon:  # it would be loaded six times
        return Preloaded("tests.faults.requestd_with_failpoint", environment, "none", "fake-denoiser")

    job = client.submit(LONG)
    for _ in range(REQUEST_DELIVERY_LIMIT + 1):
        with without_a_model() as daemon:
            daemon.wait_log(f"job {job.id} begins", timeout_seconds=120)
            daemon.kill()
    with without_a_model() as daemon:
        daemon.wait_ready()
        end = list(job.events(timeout_seconds=120))[-1]
        assert isinstance(end, Failed)
        assert end.error.code == "crashed"
        innocent = client.submit(prompt="an innocent cat", steps=3)
        assert isinstance(list(innocent.events(timeout_seconds=120))[-1], Done)
    kept = asyncio.run(head_of(topology.dead, broker))
    assert kept is not None
    assert kept.message_id == job.id


def test_sigterm_finishes_what_runs_and_gives_back_what_waits(environment: dict[str, str], client: Client) -> None:
    one_at_a_time = {**environment, "STABLEDIFFUSIOND_ENGINE__MAX_IMAGES": "1"}
    with request_daemon(one_at_a_time) as daemon:
        daemon.wait_ready()
        running, waiting = client.submit(LONG), client.submit({**LONG, "steps": 4})
        daemon.wait_log(f"job {running.id} begins")
        daemon.wait_status("^1 drawing, 1 waiting")
        assert daemon.stop() == 0
        assert f"job {running.id} done" in daemon.log
        assert f"job {waiting.id} begins" not in daemon.log
    assert isinstance(list(running.events(timeout_seconds=60))[-1], Done)
    with request_daemon(environment) as daemon:
        assert isinstance(list(waiting.events(timeout_seconds=120))[-1], Done)


def test_what_takes_longer_than_the_drain_is_given_back(environment: dict[str, str], client: Client) -> None:
    impatient = {**environment, "STABLEDIFFUSIOND_ENGINE__DRAIN_SECONDS": "0.2"}
    with request_daemon(impatient) as daemon:
        daemon.wait_ready()
        job = client.submit({**LONG, "steps": 150, "count": 4})
        daemon.wait_log(f"job {job.id} begins")
        assert daemon.stop() == 0
        assert "1 jobs are given back unfinished" in daemon.log
        assert "EXTEND_TIMEOUT_USEC=60200000" in daemon.notices, "so that systemd does not kill it before"
    client.cancel(job.id)


def test_the_second_signal_ends_at_once(environment: dict[str, str], client: Client) -> None:
    with request_daemon(environment) as daemon:
        daemon.wait_ready()
        job = client.submit({**LONG, "steps": 150, "count": 4})
        daemon.wait_log(f"job {job.id} begins")
        os.kill(daemon.process.pid, signal.SIGTERM)
        daemon.wait_log("once more ends at once")
        os.kill(daemon.process.pid, signal.SIGTERM)
        assert daemon.process.wait(20) == -signal.SIGTERM


def test_a_killed_response_daemon_loses_no_reply(
    environment: dict[str, str], client: Client, responsed: Daemon
) -> None:
    port = str(responsed.port())
    with request_daemon(environment) as daemon:
        daemon.wait_ready()
        job = client.submit(prompt="a red cat", steps=4, count=3)
        events = job.events(timeout_seconds=120)
        first = next(events)
        responsed.kill()
        with response_daemon({**environment, "STABLEDIFFUSIOND_RESPONSES__PORT": port}) as another:
            another.wait_ready()
            rest = list(events)
    images = [event for event in (first, *rest) if isinstance(event, Image)]
    assert [image.facts.index for image in images] == [0, 1, 2]
    assert isinstance(rest[-1], Done)
