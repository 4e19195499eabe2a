"""``stablediffusion_client`` as a process of its own."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Protocol

from stablediffusiond.settings import Settings
from tests.client.fake_responses import PATIENCE_SECONDS

ROOT = Path(__file__).parents[2]
#: As the console script, but minding Ctrl-C even where the tests themselves run in the background of a shell.
_SCRIPT = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from stablediffusiond.cli import main
sys.exit(main())
"""
COMMAND = [sys.executable, "-c"]


def environment(settings: Settings) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("STABLEDIFFUSIOND_")}
    return {
        **inherited,
        "PYTHONPATH": str(ROOT),
        "STABLEDIFFUSIOND_BROKER__URL": settings.broker.url.get_secret_value(),
        "STABLEDIFFUSIOND_QUEUES__REQUESTS": settings.queues.requests,
        "STABLEDIFFUSIOND_QUEUES__RESULTS": settings.queues.results,
        "STABLEDIFFUSIOND_RESPONSES__HOST": settings.responses.host,
        "STABLEDIFFUSIOND_BROKER__CONNECT_TIMEOUT_SECONDS": str(settings.broker.connect_timeout_seconds),
        "STABLEDIFFUSIOND_RESPONSES__PORT": str(settings.responses.port),
        "STABLEDIFFUSIOND_RESPONSES__HANDSHAKE_SECONDS": str(settings.responses.handshake_seconds),
    }


class Running:
    """One run of the command in the folder ``at``, in a Python that has run ``before`` first."""

    def __init__(
        self,
        settings: Settings,
        at: Path,
        *arguments: str,
        before: str = "",
        stdout: int = subprocess.PIPE,
        stderr: int = subprocess.PIPE,
    ) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, before + _SCRIPT, *arguments],
            cwd=at,
            env=environment(settings),
            stdin=subprocess.PIPE,
            stdout=stdout,
            stderr=stderr,
        )

    def end(self, stdin: bytes | None = None) -> tuple[int, bytes, str]:
        """Its exit code, standard output and standard error."""
        try:
            out, err = self.process.communicate(stdin, PATIENCE_SECONDS)
        finally:
            self.process.kill()
        return self.process.returncode, out or b"", (err or b"").decode()


class Run(Protocol):
    """Runs the command in a folder of the test's own."""

    def __call__(self, *arguments: str, stdout: int = ..., stderr: int = ...) -> Running: ...
