"""Both daemons as processes, on the session's broker, under names that only one test module uses."""

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from stablediffusiond.broker.topology import Topology
from stablediffusiond.settings import Settings
from tools.daemons import Daemon, request_daemon, response_daemon
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
        return Settings.model_validate(
            {
                "broker": {"url": self.broker.url},
                "queues": {"requests": self.topology.requests, "results": self.topology.results},
                "responses": {"host": "127.0.0.1", "port": self.responsed.port()},
            }
        )

    def shell(self, command: str, timeout_seconds: float = 60) -> str:
        """Run ``command`` in bash as a user of this service would; returns its output, fails if it does."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            env={
                **os.environ, **self.environment, "STABLEDIFFUSIOND_RESPONSES__PORT": str(self.responsed.port()),
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "URL": self.broker.url,
                "PORT": str(self.responsed.port()),
                "REQUESTS": self.topology.requests, "RESULTS": self.topology.results,
            },
            capture_output=True, text=True, timeout=timeout_seconds, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout

    def wait_depths(self, expected: Callable[[dict[str, int]], bool]) -> None:
        """Wait until the queues are as ``expected``; RabbitMQ counts every five seconds, without an event."""
        deadline = time.monotonic() + 30
        while not expected(self.depths()):
            assert time.monotonic() < deadline, self.depths()
            time.sleep(0.2)

    def depths(self) -> dict[str, int]:
        """Messages in each queue of this service."""
        listed = [line.split("\t") for line in self.broker.ctl("list_queues", "name", "messages").splitlines()]
        ours = (self.topology.requests, self.topology.results)
        return {fields[0]: int(fields[1]) for fields in listed if fields[0].startswith(ours)}


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
