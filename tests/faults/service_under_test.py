"""A broker, both daemons behind proxies, and a client that records what it gets: all that faults can be made in.

    with ServiceUnderTest(fake_denoiser=True) as service:
        service.client.submit("a red cat, 2 steps, 1")
        service.restart_requestd()
        service.settle()

Nothing here knows which faults are made; they are functions in ``faults``.
"""

import contextlib
import subprocess
import time
import uuid
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

from stablediffusiond.broker.topology import Topology
from stablediffusiond.settings import BrokerSettings
from tests.faults import several_models
from tests.faults.daemon_starter import HEARTBEAT_SECONDS, DaemonStarter
from tests.faults.job_records import JobRecord
from tests.faults.proxy import Proxy
from tests.faults.recording_client import RecordingClient
from tools.daemons import Daemon
from tools.private_broker import BrokerUnavailable, PrivateBroker, free_port
from tools.private_cluster import PrivateCluster


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
        models: int = 1,
    ) -> None:
        """``fake_denoiser``: draw without a model. ``broker``: a node that is up already, in place of one of our own.

        ``cluster``: several of them; everybody speaks to them past our proxies.
        ``failpoint``: where the request daemons end, or their device fails.
        ``models``: so many, of which two have room in a daemon; only with ``fake_denoiser``.
        """
        self._stack = contextlib.ExitStack()
        self.cluster = cluster
        self.models = several_models.names(models)
        self.broker = cluster.nodes[0] if cluster else broker or self._stack.enter_context(PrivateBroker())
        self.nodes: list[PrivateBroker] = cluster.nodes if cluster else [self.broker]
        #: The daemons' and the client's ways to the broker.
        self.jobs_path, self.replies_path, self.client_path = (
            self._stack.enter_context(Proxy(self.broker.port)) for _ in range(3)
        )
        name = uuid.uuid4().hex[:8]
        self.topology = Topology(f"requests-{name}", f"results-{name}")
        self.port = free_port()
        self._start = DaemonStarter(
            self.topology,
            requests_url=cluster.url if cluster else self.jobs_path.url,
            replies_url=cluster.url if cluster else self.replies_path.url,
            port=self.port,
            fake_denoiser=fake_denoiser,
            environment={**several_models.settings(self.models), **(environment or {})},
        )
        self._log: list[str] = []
        self.requestds = [self._start.request_daemon(failpoint) for _ in range(requestds)]
        self.responsed = self._start.response_daemon()
        to_broker = {"url": cluster.url if cluster else self.client_path.url, "heartbeat_seconds": HEARTBEAT_SECONDS}
        self.client = RecordingClient(BrokerSettings.model_validate(to_broker), self.port, self.topology)
        several_models.share_out(self.client.kinds, self.models)

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

    def reference_run(self) -> dict[str, JobRecord]:
        """One job of each kind, undisturbed, by kind; returns when all of them are acked: none of them comes again."""
        drawn = self.client.reference_run()
        self.wait_depths({})
        return drawn

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
        self.requestds = [self._running(daemon, self._start.request_daemon) for daemon in self.requestds]
        self.responsed = self._running(self.responsed, self._start.response_daemon)

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
            time.sleep(0.1)

    def depths(self) -> dict[str, int]:
        """Messages in each of our queues that has any."""
        return _depths(self.broker, self.topology)

    def wait_requestd(self, pattern: str, timeout_seconds: float = 60) -> None:
        self.requestds[0].wait_log(pattern, timeout_seconds)

    # The daemons

    def restart_requestd(self, failpoint: str = "none", number: int = 0) -> Daemon:
        """Kill a request daemon and start another one, which may have a failpoint."""
        self._end(self.requestds[number])
        self.requestds[number] = self._start.request_daemon(failpoint)
        return self.requestds[number]

    def restart_responsed(self) -> None:
        self._end(self.responsed)
        self.responsed = self._start.response_daemon()

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


def _depths(broker: PrivateBroker, topology: Topology) -> dict[str, int]:
    return {
        name.removeprefix(topology.requests): int(count)
        for name, count in broker.queues("name", "messages")
        if name.startswith((topology.requests, topology.results)) and count != "0"
    }
