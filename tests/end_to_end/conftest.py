"""Both daemons as processes, on the session's broker, under names that only one test module uses."""

import os
import re
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from stablediffusiond.broker.topology import Topology
from stablediffusiond.messages.status import ServiceStatus
from stablediffusiond.settings import Settings
from tests.client_settings import client_settings
from tests.preloaded import Preloaded, request_daemon, response_daemon
from tools.daemons import Daemon
from tools.private_broker import PrivateBroker

CHECKOUT = Path(__file__).parents[2]


@dataclass
class Service:
    """A broker and the two daemons, and how to reach them."""

    broker: PrivateBroker
    requestd: Daemon
    responsed: Daemon
    environment: dict[str, str]
    topology: Topology

    @property
    def settings(self) -> Settings:
        return client_settings(self.broker.url, self.topology, self.responsed.port())

    def shell(self, command: str, folder: Path | None = None, timeout_seconds: float = 60) -> str:
        """Run ``command`` in bash, in ``folder``, as a user would; returns its output, fails if it does."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            env={
                **os.environ, **self.environment, "STABLEDIFFUSIOND_RESPONSES__PORT": str(self.responsed.port()),
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "URL": self.broker.url,
                "PORT": str(self.responsed.port()),
                "REQUESTS": self.topology.requests, "RESULTS": self.topology.results,
            },
            cwd=folder, capture_output=True, text=True, timeout=timeout_seconds, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout

    def wait_depths(self, expected: Callable[[dict[str, int]], bool]) -> None:
        """Wait until the queues are as ``expected``; RabbitMQ counts now and then, without an event."""
        deadline = time.monotonic() + 30
        while not expected(self.depths()):
            assert time.monotonic() < deadline, self.depths()
            time.sleep(0.2)

    def depths(self) -> dict[str, int]:
        """Messages in each queue of this service."""
        ours = (self.topology.requests, self.topology.results)
        return {name: int(count) for name, count in self.broker.queues("name", "messages") if name.startswith(ours)}


@pytest.fixture(scope="module")
def names() -> dict[str, str]:
    name = uuid.uuid4().hex[:8]
    return {
        "STABLEDIFFUSIOND_QUEUES__REQUESTS": f"requests-{name}",
        "STABLEDIFFUSIOND_QUEUES__RESULTS": f"results-{name}",
        "STABLEDIFFUSIOND_ENGINE__PROGRESS_INTERVAL_SECONDS": "0.05",
    }


@pytest.fixture(scope="module")
def service(broker: PrivateBroker, names: dict[str, str]) -> Iterator[Service]:
    """Both daemons, ready."""
    environment = {**names, "STABLEDIFFUSIOND_BROKER__URL": broker.url}
    topology = Topology(names["STABLEDIFFUSIOND_QUEUES__REQUESTS"], names["STABLEDIFFUSIOND_QUEUES__RESULTS"])
    with request_daemon(environment) as requestd, response_daemon(environment) as responsed:
        requestd.wait_ready()
        responsed.wait_ready()
        yield Service(broker, requestd, responsed, environment, topology)


class Operated:
    """A request daemon, and the client of somebody who has no more rights than ``install.sh`` gives to clients."""

    def __init__(self, broker: PrivateBroker, daemon: Daemon, topology: Topology, metrics_port: int) -> None:
        self.broker = broker
        self.daemon = daemon
        self.topology = topology
        self.metrics_port = metrics_port
        self.url = _ordinary_user(broker, topology)
        queues = {"requests": topology.requests, "results": topology.results}
        self.settings = Settings.model_validate({"broker": {"url": self.url}, "queues": queues})

    @property
    def environment(self) -> dict[str, str]:
        return environment_of(self.url, self.topology)

    def run(self, *arguments: str) -> tuple[int, str, str]:
        return self._run(self.environment, *arguments)

    def run_as_operator(self, *arguments: str) -> tuple[int, str, str]:
        return self._run(environment_of(self.broker.url, self.topology), *arguments)

    @staticmethod
    def _run(environment: dict[str, str], *arguments: str) -> tuple[int, str, str]:
        done = subprocess.run(
            [sys.executable, "-m", "stablediffusiond.cli", *arguments],
            env=environment, cwd=CHECKOUT, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    def status(self) -> ServiceStatus:
        code, out, err = self.run("status", "--json")
        assert (code, err) == (0, "")
        return ServiceStatus.model_validate_json(out)


def environment_of(url: str, topology: Topology) -> dict[str, str]:
    return {
        **os.environ,
        "STABLEDIFFUSIOND_CONFIG": "",
        "STABLEDIFFUSIOND_BROKER__URL": url,
        "STABLEDIFFUSIOND_QUEUES__REQUESTS": topology.requests,
        "STABLEDIFFUSIOND_QUEUES__RESULTS": topology.results,
    }


def _ordinary_user(broker: PrivateBroker, topology: Topology) -> str:
    """The URL of a user with the permissions that ``install.sh`` gives to clients, for these queues."""
    lines = (CHECKOUT / "install.sh").read_text()
    [given] = re.findall(r"broker_user stablediffusion_client .*\\\n\s*'(.*)' '(.*)' '(.*)'", lines)
    renamed = [
        each.replace("stablediffusiond", topology.requests).replace("results", topology.results) for each in given
    ]
    name = f"client-{uuid.uuid4().hex[:8]}"
    broker.ctl("add_user", name, "sesame")
    broker.ctl("set_permissions", name, *renamed)
    return f"amqp://{name}:sesame@127.0.0.1:{broker.port}/%2F"


@pytest.fixture(scope="package")
def operated(broker: PrivateBroker) -> Iterator[Operated]:
    name = uuid.uuid4().hex[:8]
    topology = Topology(f"requests-{name}", f"results-{name}")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    environment = {**environment_of(broker.url, topology), "STABLEDIFFUSIOND_METRICS__PORT": str(port)}
    with Preloaded("tests.requestd.faked", environment) as daemon:
        yield Operated(broker, daemon.wait_ready(), topology, port)
