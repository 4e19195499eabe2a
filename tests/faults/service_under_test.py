"""A broker, both daemons behind proxies, and a client that records what it gets: all that faults can be made in.

    with ServiceUnderTest(fake_denoiser=True) as service:
        service.client.submit("a red cat, 2 steps, 1")
        service.restart_requestd()
        service.settle()

Nothing here knows which faults are made; they are functions in ``faults``.
"""

import contextlib
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Final, Self

import psutil

from stablediffusiond.broker.topology import Topology
from stablediffusiond.settings import BrokerSettings
from tests.faults.job_records import JobRecord
from tests.faults.proxy import Proxy
from tests.faults.recording_client import RecordingClient
from tools.daemons import Daemon, response_daemon
from tools.private_broker import BrokerUnavailable, PrivateBroker
from tools.private_cluster import PrivateCluster

HEARTBEAT_SECONDS: Final = 5


class ServiceUnderTest:
    """Everything up and ready between ``with`` and its end."""

    def __init__(
        self,
        *,
        fake_denoiser: bool,
        requestds: int = 1,
        broker: PrivateBroker | None = None,
        cluster: PrivateCluster | None = None,
        environment: Mapping[str, str] | None = None,
        failpoint: str = "none",
    ) -> None:
        """``fake_denoiser``: draw without a model. ``broker``: a node that is up already, in place of one of our own.

        ``cluster``: several of them; everybody speaks to them past our proxies.
        ``failpoint``: where the request daemons end, or their device fails.
        """
        self._fake_denoiser = fake_denoiser
        self._stack = contextlib.ExitStack()
        self.cluster = cluster
        self.broker = cluster.nodes[0] if cluster else broker or self._stack.enter_context(PrivateBroker())
        self.nodes: list[PrivateBroker] = cluster.nodes if cluster else [self.broker]
        #: The daemons' and the client's ways to the broker.
        self.jobs_path, self.replies_path, self.client_path = (
            self._stack.enter_context(Proxy(self.broker.port)) for _ in range(3)
        )
        url = self._url = cluster.url if cluster else None
        name = uuid.uuid4().hex[:8]
        self.topology = Topology(f"requests-{name}", f"results-{name}")
        self.port = _free_port()
        self._environment = {
            "STABLEDIFFUSIOND_CONFIG": "",
            "STABLEDIFFUSIOND_QUEUES__REQUESTS": self.topology.requests,
            "STABLEDIFFUSIOND_QUEUES__RESULTS": self.topology.results,
            "STABLEDIFFUSIOND_BROKER__HEARTBEAT_SECONDS": str(HEARTBEAT_SECONDS),
            "STABLEDIFFUSIOND_BROKER__RECONNECT_MAX_SECONDS": "2",
            "STABLEDIFFUSIOND_BROKER__BLOCKED_TIMEOUT_SECONDS": "10",
            "STABLEDIFFUSIOND_RESPONSES__STALL_SECONDS": "5",
            **(environment or {}),
        }
        self._log: list[str] = []
        self.requestds = [self._requestd(failpoint) for _ in range(requestds)]
        self.responsed = self._responsed()
        to_broker = {"url": url or self.client_path.url, "heartbeat_seconds": HEARTBEAT_SECONDS}
        self.client = RecordingClient(BrokerSettings.model_validate(to_broker), self.port, self.topology)

    def __enter__(self) -> Self:
        try:
            for daemon in (*self.requestds, self.responsed):
                daemon.wait_ready()
            self.client.start()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            print("\n".join(self._log), *(daemon.log for daemon in (*self.requestds, self.responsed)), sep="\n")  # noqa: T201
        self._close()

    def _close(self) -> None:
        self.client.close()
        for daemon in (*self.requestds, self.responsed):
            daemon.kill()
            daemon.close()
        self._stack.close()

    # The end

    def settle(self, timeout_seconds: float = 120) -> None:
        """Have the network work again, start daemons that have ended, and wait until each job has ended."""
        for path in (self.jobs_path, self.replies_path, self.client_path):
            path.heal()
        deadline = time.monotonic() + timeout_seconds
        self.start_ended_daemons()
        while not self.client.records.wait_for_all(1):
            if time.monotonic() > deadline:
                raise AssertionError(f"no end in {timeout_seconds:g} s: {self.client.records.lost()}")
            self.start_ended_daemons()

    def start_ended_daemons(self) -> None:
        """Start what has died, as systemd would."""
        self.requestds = [self._running(daemon, self._requestd) for daemon in self.requestds]
        self.responsed = self._running(self.responsed, self._responsed)

    def check(self, reference: dict[str, JobRecord]) -> None:
        """Fail unless every job has its one end and its pictures, and nothing is left over."""
        assert not self.client.records.lost()
        assert not self.client.records.wrong(reference)
        assert not self.client.records.unknown_jobs
        self.wait_depths({})

    def wait_depths(self, expected: dict[str, int], timeout_seconds: float = 40) -> None:
        """Wait until only the ``expected`` queues hold messages; RabbitMQ counts them now and then, without an event."""
        deadline = time.monotonic() + timeout_seconds
        while (depths := self.depths()) != expected:
            assert time.monotonic() < deadline, depths
            time.sleep(0.3)

    def depths(self) -> dict[str, int]:
        """Messages in each of our queues that has any."""
        listed = [line.split("\t") for line in self.broker.ctl("list_queues", "name", "messages").splitlines()]
        ours = (self.topology.requests, self.topology.results)
        return {
            name.removeprefix(self.topology.requests): int(count)
            for name, count in listed
            if name.startswith(ours) and count != "0"
        }

    def wait_requestd(self, pattern: str, timeout_seconds: float = 60) -> None:
        self.requestds[0].wait_log(pattern, timeout_seconds)

    # The daemons

    def restart_requestd(self, failpoint: str = "none", number: int = 0) -> Daemon:
        """Kill a request daemon and start another one, which may have a failpoint."""
        self._end(self.requestds[number])
        self.requestds[number] = self._requestd(failpoint)
        return self.requestds[number]

    def restart_responsed(self) -> None:
        self._end(self.responsed)
        self.responsed = self._responsed()

    def _running(self, daemon: Daemon, start: Callable[[], Daemon]) -> Daemon:
        """``daemon`` if it lives, else another one."""
        if daemon.process.poll() is None:
            return daemon
        self._end(daemon)
        return start()

    def _end(self, daemon: Daemon) -> None:
        daemon.kill()
        self._log.append(daemon.log[-20_000:])
        del self._log[:-10]
        daemon.close()

    def _requestd(self, failpoint: str = "none") -> Daemon:
        environment = {**self._environment, "STABLEDIFFUSIOND_BROKER__URL": self._url or self.jobs_path.url}
        if not self._fake_denoiser and failpoint == "none":
            return Daemon("stablediffusiond.requestd.daemon", environment)
        return Daemon(
            "tests.faults.requestd_with_failpoint",
            environment,
            failpoint,
            *(["fake-denoiser"] if self._fake_denoiser else []),
        )

    def _responsed(self) -> Daemon:
        return response_daemon(
            {
                **self._environment,
                "STABLEDIFFUSIOND_BROKER__URL": self._url or self.replies_path.url,
                "STABLEDIFFUSIOND_RESPONSES__PORT": str(self.port),
            }
        )

    # The broker

    def ctl(self, *arguments: str, tries: int = 3) -> None:
        """rabbitmqctl, again if the node is not to be spoken to just now."""
        for left in reversed(range(tries)):
            try:
                self.broker.ctl(*arguments)
            except (BrokerUnavailable, subprocess.TimeoutExpired):
                if not left:
                    raise
                time.sleep(1)
            else:
                return

    def resources(self) -> dict[str, tuple[int, float, int]]:
        """Each daemon's pid, resident megabytes and open descriptors, if it lives."""
        found = {}
        named = {f"stablediffusiond {n}": each for n, each in enumerate(self.requestds)}
        for name, daemon in {**named, "stablediffusion_responsed": self.responsed}.items():
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(daemon.process.pid)
                found[name] = (process.pid, process.memory_info().rss / 1e6, process.num_fds())
        return found


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port
