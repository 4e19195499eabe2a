"""The programs of this project as processes that can be waited for: for the demo, the tests and the benchmarks."""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Protocol, Self

CHECKOUT = Path(__file__).parents[1]


class DaemonFailed(Exception):
    """Raised when a daemon ends, or does not become ready in time; the message ends with its log."""


class DaemonProcess(Protocol):
    """What is needed of ``subprocess.Popen``."""

    pid: int

    @property
    def returncode(self) -> int | None: ...
    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, number: int, /) -> None: ...
    def terminate(self) -> None: ...
    def kill(self) -> None: ...


class Daemon:
    """One daemon from start to end, ready when it tells its service manager so.

    ``module`` is run by this interpreter with ``environment`` over ours; the log is kept in a file.
    """

    def __init__(self, module: str, environment: Mapping[str, str], *arguments: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="sdd-")
        self._log = Path(self._folder.name) / "log"
        # In the abstract namespace: a path below TMPDIR may be too long for a socket.
        self._address = f"@stablediffusiond-{uuid.uuid4().hex}"
        self._notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notices.bind(self._address.replace("@", "\0"))
        self.status = ""
        #: All that its service manager was told, line by line.
        self.notices: list[str] = []
        self._reader = threading.Thread(target=self._read_notices, daemon=True)
        self._reader.start()
        told = {**os.environ, **environment, "NOTIFY_SOCKET": self._address}
        with self._log.open("wb") as log:
            self.process = self._start(module, arguments, told, log)
        self._module = module

    def _start(
        self, module: str, arguments: Sequence[str], environment: Mapping[str, str], log: IO[bytes]
    ) -> DaemonProcess:
        return subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            env=environment, cwd=CHECKOUT, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip

    @property
    def log(self) -> str:
        return self._log.read_text("utf-8", errors="replace")

    def wait_ready(self, timeout_seconds: float = 120) -> Self:
        """Wait for READY=1."""
        return self._wait_for(lambda: "READY=1" in self.notices, timeout_seconds, "ready")

    def wait_status(self, pattern: str, timeout_seconds: float = 60) -> Self:
        """Wait for a STATUS that matches."""
        return self._wait_for(lambda: re.search(pattern, self.status) is not None, timeout_seconds, pattern)

    def wait_log(self, pattern: str, timeout_seconds: float = 60) -> Self:
        """Wait for a line in the log that matches."""
        return self._wait_for(lambda: re.search(pattern, self.log) is not None, timeout_seconds, pattern)

    def port(self) -> int:
        """The port that the response daemon, or the gateway, says it listens on."""
        found = re.search(r"listening on (?:http://)?127\.0\.0\.1:(\d+)", self.log)
        if not found:
            raise DaemonFailed(f"{self._module} names no port\n{self.log}")
        return int(found[1])

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        self.process.kill()
        self.process.wait()

    def stop(self, timeout_seconds: float = 90) -> int:
        """SIGTERM, and wait for the end; returns the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout_seconds)

    def close(self) -> None:
        """End it in whatever state it is, and forget its files."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
            end.sendto(b"", self._address.replace("@", "\0"))
        self._reader.join()
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            sys.stderr.write(f"--- log of {self._module}\n{self.log}\n")
        self.close()

    def _wait_for(self, condition: Callable[[], bool], timeout_seconds: float, what: str) -> Self:
        deadline = time.monotonic() + timeout_seconds
        while not condition():
            if self.process.poll() is not None:
                raise DaemonFailed(f"{self._module} ended with {self.process.returncode}\n{self.log}")
            if time.monotonic() > deadline:
                raise DaemonFailed(f"{self._module} is not {what!r} after {timeout_seconds:g} s\n{self.log}")
            time.sleep(0.02)  # a process, a log and a socket at once: there is no one event to wait for
        return self

    def _read_notices(self) -> None:
        """Read as fast as systemd would: a notice that is not read would hold up the daemon."""
        with self._notices:
            while notice := self._notices.recv(65_536):
                for line in notice.decode().splitlines():
                    name, _, value = line.partition("=")
                    self.notices.append(line)
                    self.status = value if name == "STATUS" else self.status


def request_daemon(environment: Mapping[str, str]) -> Daemon:
    return Daemon("stablediffusiond.requestd.daemon", environment)


def gateway(environment: Mapping[str, str]) -> Daemon:
    return Daemon("stablediffusiond.gateway.daemon", {"STABLEDIFFUSIOND_GATEWAY__PORT": "0", **environment})


def response_daemon(environment: Mapping[str, str]) -> Daemon:
    return Daemon("stablediffusiond.responsed.daemon", {"STABLEDIFFUSIOND_RESPONSES__PORT": "0", **environment})
