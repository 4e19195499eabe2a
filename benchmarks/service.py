"""A private broker, both daemons and a client, for the benchmarks that go the whole way."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import psutil

from stablediffusiond.client import Client
from stablediffusiond.settings import Settings
from tools.daemons import Daemon, request_daemon, response_daemon
from tools.private_broker import PrivateBroker


@dataclass(frozen=True)
class Service:
    broker: PrivateBroker
    requestd: Daemon
    responsed: Daemon
    client: Client

    def resident_megabytes(self) -> dict[str, float]:
        daemons = {"stablediffusiond": self.requestd, "stablediffusion_responsed": self.responsed}
        return {name: round(_resident(daemon), 1) for name, daemon in daemons.items()}


@contextlib.contextmanager
def running(model: str = "doodle", **environment: str) -> Iterator[Service]:
    """Everything up and ready; ``environment`` holds further settings of the daemons."""
    with PrivateBroker() as broker:
        chosen = {
            "STABLEDIFFUSIOND_CONFIG": "",
            "STABLEDIFFUSIOND_BROKER__URL": broker.url,
            "STABLEDIFFUSIOND_MODEL__NAME": model,
            **environment,
        }
        with request_daemon(chosen) as requestd, response_daemon(chosen) as responsed:
            requestd.wait_ready(600)
            responsed.wait_ready()
            settings = Settings.model_validate(
                {"broker": {"url": broker.url}, "responses": {"host": "127.0.0.1", "port": responsed.port()}}
            )
            with Client(settings) as client:
                yield Service(broker, requestd, responsed, client)


def _resident(daemon: Daemon) -> float:
    return float(psutil.Process(daemon.process.pid).memory_info().rss) / 1e6
