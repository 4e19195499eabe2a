"""A RabbitMQ node for oneself: for the tests, the benchmarks and the demo.

It listens on loopback only, on free ports, keeps everything in a temporary folder, has its own epmd, and is gone
afterwards, also when this process is killed. A broker that the machine runs is left alone.
"""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Final, Self

from tools.administration import expressions
from tools.erlang_call import CallFailed, evaluate, list_queues
from tools.erlang_modules import find_modules_quickly
from tools.node_configuration import CONFIG, environment, write_files
from tools.process_group import ProcessGroup

PROGRAMS: Final = Path("/usr/lib/rabbitmq/bin")


class BrokerUnavailable(Exception):
    """Raised when no node can be had; the message says what to do."""


class PrivateBroker:
    """``with PrivateBroker() as broker: ... broker.url``."""

    #: How often a node counts what is in its quorum queues, for rabbitmqctl; so often does RabbitMQ by itself.
    counts_every_milliseconds: ClassVar[int] = 5000

    def __init__(
        self,
        port: int | None = None,
        *,
        config: str = "",
        advanced: str = "",
        plugins: tuple[str, ...] = (),
        erlang: str = "",
        beside: "PrivateBroker | None" = None,
    ) -> None:
        """``config`` is what rabbitmq.conf says besides, ``advanced`` advanced.config, ``plugins`` what is enabled.

        ``erlang`` holds arguments of the Erlang machine. ``beside`` is a running node, whose cluster this one joins.
        """
        if not (PROGRAMS / "rabbitmq-server").exists():
            raise BrokerUnavailable("RabbitMQ is not installed; run: sudo apt-get install rabbitmq-server")
        self._folder = Path(tempfile.mkdtemp(prefix="rabbit-"))
        self.port = port or free_port()
        self.node = f"private-{uuid.uuid4().hex[:8]}@localhost"
        self._process: ProcessGroup | None = None
        self._epmd: ProcessGroup | None = None
        self.epmd_port: int = beside.epmd_port if beside else free_port()
        self._epmd_is_mine = beside is None
        self.cookie: str = beside.cookie if beside else uuid.uuid4().hex
        write_files(self._folder, plugins, advanced or "[].", self.cookie)
        self._config = f"listeners.tcp.1 = 127.0.0.1:{self.port}\n{CONFIG}{config}"
        self.join_at_first_start([beside, self] if beside else [])
        #: What the node's own processes get besides, and rabbitmqctl does not.
        self.server_environment: dict[str, str] = {}
        counting = f"-rabbit quorum_tick_interval {self.counts_every_milliseconds}"
        self._environment = environment(self._folder, self.node, self.epmd_port, free_port(), f"{counting} {erlang}")
        if not plugins:
            find_modules_quickly(self._folder, self._environment)

    @property
    def data_folder(self) -> Path:
        """What a power cut leaves of the node, and the loss of its disk does not."""
        return self._folder / "mnesia"

    @property
    def is_up(self) -> bool:
        """Whether it was started, and has not ended since."""
        return self._process is not None and not self._process.has_ended

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}/%2F"

    def join_at_first_start(self, nodes: "Sequence[PrivateBroker]") -> None:
        """Have it, when it has no data, join the cluster of ``nodes``, which name itself too."""
        peers = [f"cluster_formation.classic_config.nodes.{n} = {each.node}\n" for n, each in enumerate(nodes, start=1)]
        (self._folder / "rabbitmq.conf").write_text(self._config + "".join(peers))

    def start(self) -> Self:
        """Start the node, or start it again, and wait until it takes connections."""
        self.launch()
        return self.wait_up()

    def launch(self) -> None:
        """Start the node and do not wait."""
        if self._epmd is None and self._epmd_is_mine:
            self._epmd = self._run(_epmd_program(), "epmd.log")
        self._process = self._run(str(PROGRAMS / "rabbitmq-server"), "node.log", self.server_environment)

    def wait_up(self, timeout_seconds: float = 90) -> Self:
        """Wait until it takes connections."""
        deadline = time.monotonic() + timeout_seconds
        while not _speaks_amqp(self.port):
            if self._process is None or self._process.has_ended or time.monotonic() > deadline:
                raise BrokerUnavailable(f"RabbitMQ did not start:\n{self.log()[-4000:]}")
            time.sleep(0.05)
        return self

    def settle(self) -> Self:
        """Wait until a queue declared just now would survive ``kill``.

        RabbitMQ 3.10 writes the table of its quorum queues half a second after a change, without an event, and comes
        back with a queue that answers nothing if it is killed before.
        """
        time.sleep(2)
        return self

    def kill(self) -> None:
        """End the node as a power cut would; ``start`` brings it back with what it had on disk."""
        if self._process is not None:
            self._process.kill()
            self._process = None

    def restart(self) -> None:
        self.kill()
        self.start()

    def pause(self) -> None:
        """Stop the node as a machine that is overloaded stands still: its connections stay, and nothing is answered."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def stop(self) -> None:
        """End the node and remove every trace of it."""
        self.kill()
        if self._epmd is not None:
            self._epmd.kill()
            self._epmd = None
        shutil.rmtree(self._folder, ignore_errors=True)

    def lose_data(self) -> None:
        """Have its disk replaced by an empty one, while it does not run."""
        shutil.rmtree(self.data_folder)
        self.data_folder.mkdir()

    def ctl(self, *arguments: str, program: str = "rabbitmqctl") -> str:
        """Do as rabbitmqctl, or another of RabbitMQ's programs, does on this node; returns what it prints."""
        if program == "rabbitmqctl" and (known := expressions(arguments)):
            return self.evaluate(known)
        done = subprocess.run(
            [PROGRAMS / program, "-q", *arguments],
            env=self._environment, capture_output=True, text=True, timeout=180, check=False,
        )  # fmt: skip
        if done.returncode:
            raise BrokerUnavailable(f"{program} {' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done.stdout

    def evaluate(self, expressions: str) -> str:
        """Have the node evaluate Erlang's ``expressions``; returns what they print."""
        try:
            return evaluate(self.node, self.cookie, self._environment, expressions)
        except (CallFailed, subprocess.TimeoutExpired) as error:
            raise BrokerUnavailable(str(error)) from error

    def queues(self, *items: str) -> list[list[str]]:
        """What ``rabbitmqctl list_queues`` tells of each queue of the vhost /."""
        return [line.split("\t") for line in self.evaluate(list_queues(items)).splitlines()]

    def log(self) -> str:
        files = sorted([self._folder / "node.log", *(self._folder / "log").glob("*.log")])
        return "\n".join(file.read_text(errors="replace") for file in files if file.exists())

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self, program: str, log: str, environment: Mapping[str, str] | None = None) -> ProcessGroup:
        return ProcessGroup(program, self._folder, log, {**self._environment, **(environment or {})})

    @property
    def pid(self) -> int:
        return int((self._folder / "pid").read_text())


def _speaks_amqp(port: int) -> bool:
    """Whether a wrong greeting is answered with the right one."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as probe:
            probe.sendall(b"AMQP\x00\x00\x09\x01")
            return probe.recv(1) != b""
    except OSError:
        return False


def _epmd_program() -> str:
    found = shutil.which("epmd") or next(map(str, Path("/usr/lib/erlang").glob("erts-*/bin/epmd")), None)
    if found is None:
        raise BrokerUnavailable("epmd is not installed; run: sudo apt-get install erlang-base")
    return found


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port
