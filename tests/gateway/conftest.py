"""The gateway as a process, before both daemons and a broker, and clients that speak HTTP to it."""

import json
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
import pytest

from stablediffusiond.broker.topology import Topology
from stablediffusiond.settings import Settings
from tests.client_settings import client_settings
from tests.gateway.s3_server import S3Server
from tests.preloaded import Preloaded, gateway, response_daemon
from tools.daemons import Daemon
from tools.private_broker import PrivateBroker

BODY: dict[str, Any] = {"prompt": "a red cat", "seed": 42, "steps": 10, "width": 64, "height": 64}


@dataclass
class Running:
    """A gateway, and what it is in front of."""

    broker: PrivateBroker
    topology: Topology
    environment: dict[str, str]
    store: Path
    requestd: Daemon
    responsed: Daemon
    daemon: Daemon
    client: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        self.client = self.client_with()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.daemon.port()}"

    def client_with(self, **headers: str) -> httpx.Client:
        return httpx.Client(base_url=self.address, headers=headers, timeout=60, trust_env=False)

    def post(self, path: str = "/jobs", body: object = None, **headers: str) -> httpx.Response:
        return self.client.post(path, json=body if body is not None else BODY, headers=headers)

    def draw(self, **fields: Any) -> dict[str, Any]:
        """A job of ours that has ended."""
        answer = self.post(body={**BODY, **fields})
        assert answer.status_code == 202, answer.text
        job = answer.json()["id"]
        self.events(job)
        return self.job(job)

    def job(self, job_id: str) -> dict[str, Any]:
        answer = self.client.get(f"/jobs/{job_id}")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def events(self, job_id: str, **headers: str) -> list["Event"]:
        """All events of a job, to its end."""
        with self.client.stream("GET", f"/jobs/{job_id}/events", headers=headers) as answer:
            assert answer.status_code == 200
            return list(read_events(answer))

    def restart(self, kill: bool = False) -> None:
        """The gateway alone, at another port."""
        if kill:
            self.daemon.kill()
        else:
            assert self.daemon.stop() == 0
        self.daemon.close()
        self.client.close()
        self.daemon = gateway(self.environment).wait_ready()
        self.client = self.client_with()

    @property
    def settings(self) -> Settings:
        return client_settings(self.broker.url, self.topology, self.responsed.port())

    def close(self) -> None:
        self.client.close()
        for daemon in (self.daemon, self.responsed, self.requestd):
            daemon.close()


@dataclass(frozen=True)
class Event:
    """A Server-Sent Event."""

    name: str
    id: str | None
    data: dict[str, Any]


def read_events(answer: httpx.Response) -> Iterator[Event]:
    fields: dict[str, str] = {}
    for line in answer.iter_lines():
        if line and not line.startswith(":"):
            name, _, value = line.partition(": ")
            fields[name] = value
        elif fields:
            yield Event(fields.get("event", "message"), fields.get("id"), json.loads(fields["data"]))
            fields = {}


def without_model(environment: dict[str, str]) -> Daemon:
    return Preloaded("tests.gateway.drawing", environment)


@contextmanager
def running(
    broker: PrivateBroker,
    folder: Path,
    settings: Mapping[str, str] = MappingProxyType({}),
    others: Mapping[str, str] = MappingProxyType({}),
    draws: Callable[[dict[str, str]], Daemon] = without_model,
) -> Iterator[Running]:
    """All of it, ready; ``settings`` are those of ``[gateway]``, ``others`` the rest of its environment; ``draws`` starts a request daemon."""
    name = uuid.uuid4().hex[:8]
    topology = Topology(f"requests-{name}", f"results-{name}")
    environment = {
        "STABLEDIFFUSIOND_CONFIG": "",
        "STABLEDIFFUSIOND_BROKER__URL": broker.url,
        "STABLEDIFFUSIOND_QUEUES__REQUESTS": topology.requests,
        "STABLEDIFFUSIOND_QUEUES__RESULTS": topology.results,
        "STABLEDIFFUSIOND_ENGINE__PROGRESS_INTERVAL_SECONDS": "0.02",
    }
    requestd = draws(environment)
    responsed = response_daemon(environment)
    try:
        requestd.wait_ready()
        responsed.wait_ready()
        environment |= {
            "STABLEDIFFUSIOND_RESPONSES__HOST": "127.0.0.1",
            "STABLEDIFFUSIOND_RESPONSES__PORT": str(responsed.port()),
            "STABLEDIFFUSIOND_GATEWAY__STORE": str(folder / "store"),
            **{f"STABLEDIFFUSIOND_GATEWAY__{key.upper()}": value for key, value in settings.items()},
            **others,
        }
        daemon = gateway(environment).wait_ready()
    except BaseException:
        requestd.close()
        responsed.close()
        raise
    made = Running(broker, topology, environment, folder / "store", requestd, responsed, daemon)
    try:
        yield made
    except BaseException:
        sys.stderr.write(made.daemon.log + made.requestd.log + made.responsed.log)
        raise
    finally:
        made.close()


@dataclass(frozen=True)
class Kept:
    """Where a gateway of a test keeps what it has: the settings that say so, and the rest of its environment."""

    settings: dict[str, str]
    others: dict[str, str]
    server: S3Server | None = None

    def has(self, served: "Running", name: str) -> bool:
        """Whether there is such a file."""
        return name in self.server.objects() if self.server is not None else (served.store / name).exists()


@pytest.fixture(params=["folder", "s3"])
def kept(request: pytest.FixtureRequest, tmp_path: Path, free_port: int) -> Iterator[Kept]:
    if request.param == "folder":
        yield Kept({}, {})
        return
    with S3Server(tmp_path / "s3", free_port) as server:
        yield Kept({"store": server.store}, server.environment, server)


@pytest.fixture(scope="module")
def served(broker: PrivateBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(broker, tmp_path_factory.mktemp("gateway")) as made:
        yield made
