"""The fault bench: a broker, daemons behind proxies, a client that keeps books, and hands to break each of them with.

    with Bench(stand_in=True) as bench:
        bench.submit("a red cat, 2 steps, 1")
        bench.kill_requestd()
        bench.settle()

Nothing here knows which faults are made; they are functions in ``faults``.
"""

import base64
import contextlib
import io
import json
import random
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Final, Self

import psutil
from PIL import Image

from stablediffusiond.broker.message import Message
from stablediffusiond.broker.topology import Topology
from stablediffusiond.client.background_loop import BackgroundLoop
from stablediffusiond.client.submitter import Submitter
from stablediffusiond.errors import BrokerError
from stablediffusiond.frames import Frame
from stablediffusiond.messages.request import Priority
from stablediffusiond.settings import BrokerSettings
from tests.faults.books import Account, Books, Fields, kinds
from tests.faults.proxy import Proxy
from tests.faults.reader import Reader
from tools.daemons import Daemon, response_daemon
from tools.private_broker import BrokerUnavailable, PrivateBroker
from tools.private_cluster import PrivateCluster

HEARTBEAT_SECONDS: Final = 5
_PAUSE_SECONDS: Final = 0.1


class Bench:
    """Everything up and ready between ``with`` and its end."""

    def __init__(
        self,
        *,
        stand_in: bool,
        seed: int = 0,
        requestds: int = 1,
        broker: PrivateBroker | None = None,
        cluster: PrivateCluster | None = None,
        environment: Mapping[str, str] | None = None,
        phase: str = "never",
    ) -> None:
        """``stand_in``: draw without a model. ``broker``: a node that is up already, in place of one of our own.

        ``cluster``: several of them; everybody speaks to them past our proxies.
        ``phase``: what the request daemons are to die of, or their device to fail in.
        """
        self.chance = random.Random(seed)
        self._stand_in = stand_in
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
        self.requestds = [self._requestd(phase) for _ in range(requestds)]
        self.responsed = self._responsed()
        self.kinds = kinds(_init_image())
        self.books = Books()
        self._loop = BackgroundLoop()
        self._submitter = Submitter(
            BrokerSettings.model_validate({"url": url or self.client_path.url, "heartbeat_seconds": HEARTBEAT_SECONDS}),
            600,
        )
        self.reader = Reader(self.port, f"{self.topology.results}.{uuid.uuid4()}", self._on_reply)
        self.refusals = 0

    def __enter__(self) -> Self:
        try:
            for daemon in (*self.requestds, self.responsed):
                daemon.wait_ready()
            self.reader.start()
            self.reader.listening.wait(60)
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
        self.reader.close()
        self._loop.stop(self._submitter.close)
        for daemon in (*self.requestds, self.responsed):
            daemon.kill()
            daemon.close()
        self._stack.close()

    # The client

    def submit(self, kind: str, *, job_id: str | None = None, priority: Priority = "normal") -> str:
        """Publish a job of that kind, as often as it takes until the broker confirms it; returns its id."""
        job_id = job_id or f"{kind}/{uuid.uuid4()}"
        self.books.open(job_id, kind)
        self.publish({**self.kinds[kind], "id": job_id}, priority=priority)
        self.books.confirm(job_id)
        return job_id

    def _on_reply(self, frame: Frame) -> None:
        self.books.enter(frame)

    def publish(self, fields: Fields, *, priority: Priority = "normal", reply_to: str = "") -> None:
        name = str(fields["id"])
        message = Message(
            json.dumps(fields).encode(), "application/json", message_id=name, correlation_id=name,
            reply_to=reply_to or self.reader.queue, timestamp=datetime.now(UTC),
        )  # fmt: skip
        while True:
            try:
                self.send(message, self.topology.request_queue(priority))
            except BrokerError:
                self.refusals += 1
                time.sleep(_PAUSE_SECONDS)
            else:
                return

    def send(self, message: Message, queue: str) -> None:
        """Publish ``message``, and return when the broker has confirmed it."""
        self._loop.run(self._submitter.publish(message, queue))

    def undisturbed(self) -> dict[str, Account]:
        """One job of each kind, drawn alone, by kind; the books are new afterwards."""
        for kind in self.kinds:
            self.submit(kind)
            assert self.books.wait_for_ends(120), f"{kind} has not ended"
        drawn, self.books = {account.kind: account for account in self.books.accounts.values()}, Books()
        return drawn

    # The end

    def settle(self, timeout_seconds: float = 120) -> None:
        """Heal everything, again and again, and wait until each job has ended."""
        for path in (self.jobs_path, self.replies_path, self.client_path):
            path.heal()
        deadline = time.monotonic() + timeout_seconds
        self.revive()
        while not self.books.wait_for_ends(1):
            if time.monotonic() > deadline:
                raise AssertionError(f"no end in {timeout_seconds:g} s: {self.books.lost()}")
            self.revive()

    def revive(self) -> None:
        """Start what has died, as systemd would."""
        self.requestds = [self._again(daemon, self._requestd) for daemon in self.requestds]
        self.responsed = self._again(self.responsed, self._responsed)

    def check(self, reference: dict[str, Account]) -> None:
        """Fail unless every job has its one end and its pictures, and nothing is left over."""
        assert not self.books.lost()
        assert not self.books.wrong(reference)
        assert not self.books.strangers
        self.wait_depths({})

    def wait_depths(self, expected: dict[str, int], timeout_seconds: float = 40) -> None:
        """Wait until only the ``expected`` queues hold messages; RabbitMQ counts them every five seconds."""
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

    def restart_requestd(self, phase: str = "never", number: int = 0) -> Daemon:
        """Kill a request daemon and start another one, which may have a phase to die in."""
        self._end(self.requestds[number])
        self.requestds[number] = self._requestd(phase)
        return self.requestds[number]

    def restart_responsed(self) -> None:
        self._end(self.responsed)
        self.responsed = self._responsed()

    def _again(self, daemon: Daemon, start: Callable[[], Daemon]) -> Daemon:
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

    def _requestd(self, phase: str = "never") -> Daemon:
        environment = {**self._environment, "STABLEDIFFUSIOND_BROKER__URL": self._url or self.jobs_path.url}
        if not self._stand_in and phase == "never":
            return Daemon("stablediffusiond.requestd.daemon", environment)
        return Daemon("tests.faults.dying", environment, phase, *(["stand-in"] if self._stand_in else []))

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


def _init_image() -> str:
    out = io.BytesIO()
    Image.linear_gradient("L").resize((64, 64)).convert("RGB").save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port
