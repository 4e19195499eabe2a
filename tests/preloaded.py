"""Daemons with a real model that start in one second in place of seven: forked off a process that has imported torch.

From there on they are as any other: a process of their own, with its own command line arguments, environment and log.
That a daemon starts from nothing is shown by the tests of the demo, of the README and of the installation.
"""

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import IO

from tools.daemons import CHECKOUT, Daemon

#: What takes long to import.
_PRELOADED = ["stablediffusiond.engine.denoiser"]


def request_daemon(environment: Mapping[str, str]) -> Daemon:
    return PreloadedDaemon("stablediffusiond.requestd.daemon", environment)


class PreloadedDaemon(Daemon):
    def _start(
        self, module: str, arguments: Sequence[str], environment: Mapping[str, str], log: IO[bytes]
    ) -> "ForkedProcess":
        return ForkedProcess(module, arguments, environment, log)


class ForkedProcess:
    """``python -m module arguments``, with what ``subprocess.Popen`` has for it."""

    def __init__(self, module: str, arguments: Sequence[str], environment: Mapping[str, str], log: IO[bytes]) -> None:
        run = (module, [module, *arguments], dict(environment), Path(log.name))
        self._process: ForkServerProcess = _preloaded().Process(target=_run, args=run)
        self._process.start()
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


@cache
def _preloaded() -> ForkServerContext:
    """Ends with this process."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    return context


def _run(module: str, argv: list[str], environment: dict[str, str], log: Path) -> None:
    with log.open("ab") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    os.chdir(CHECKOUT)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = argv
    runpy.run_module(module, run_name="__main__", alter_sys=True)
