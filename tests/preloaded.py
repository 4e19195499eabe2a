"""Daemons that start in no time: forked off a process that has imported what they import, torch too where they draw.

From there on they are as any other: a process of their own, with its own command line arguments, environment and log.
That a daemon starts from nothing is shown by the tests of the demo, of the README and of the installation.
"""

import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, ClassVar, Final

from tests.fork_servers import forked
from tools.daemons import CHECKOUT, Daemon

#: What takes a second to import, and what takes ten.
_LIGHT: Final = (
    "stablediffusiond.requestd.daemon",
    "stablediffusiond.responsed.daemon",
    "stablediffusiond.gateway.daemon",
    "tests.engine.fake",
    "tests.faults.fake_denoiser",
    "tests.preloaded",
)
_WITH_TORCH: Final = ("stablediffusiond.engine.models", *_LIGHT)


def request_daemon(environment: Mapping[str, str]) -> Daemon:
    return PreloadedWithTorch("stablediffusiond.requestd.daemon", environment)


def gateway(environment: Mapping[str, str]) -> Daemon:
    return Preloaded("stablediffusiond.gateway.daemon", {"STABLEDIFFUSIOND_GATEWAY__PORT": "0", **environment})


def response_daemon(environment: Mapping[str, str]) -> Daemon:
    return Preloaded("stablediffusiond.responsed.daemon", {"STABLEDIFFUSIOND_RESPONSES__PORT": "0", **environment})


class Preloaded(Daemon):
    """A daemon without a model."""

    imported: ClassVar[tuple[str, ...]] = _LIGHT

    def _start(
        self, module: str, arguments: Sequence[str], environment: Mapping[str, str], log: IO[bytes]
    ) -> "ForkedProcess":
        return ForkedProcess(self.imported, module, arguments, environment, log)


class PreloadedWithTorch(Preloaded):
    imported = _WITH_TORCH


class ForkedProcess:
    """``python -m module arguments``, with what ``subprocess.Popen`` has for it."""

    def __init__(
        self,
        imported: Sequence[str],
        module: str,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        log: IO[bytes],
    ) -> None:
        self._process = forked(imported, _run, module, [module, *arguments], dict(environment), Path(log.name))
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if (code := self._process.exitcode) is None:
            raise subprocess.TimeoutExpired(self._process.name, timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _run(module: str, argv: list[str], environment: dict[str, str], log: Path) -> None:
    with log.open("ab") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    sys.modules.pop(module, None)  # as a program it is another one
    os.chdir(CHECKOUT)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = argv
    runpy.run_module(module, run_name="__main__", alter_sys=True)
