"""What it listens on: the Unix socket's file from start to end, and what it refuses to listen on at all."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.preloaded import response_daemon
from tests.responsed.conftest import Client
from tools.daemons import CHECKOUT, DaemonFailed


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="sdd-") as made:  # pytest's own are too long for a socket's name
        yield Path(made)


def test_a_stale_file_is_replaced_and_a_live_one_left_alone(environment: dict[str, str], folder: Path) -> None:
    own = folder / "own.sock"
    environment = {**environment, "STABLEDIFFUSIOND_RESPONSES__SOCKET": str(own)}
    with response_daemon(environment) as first:
        first.wait_ready()
        with response_daemon(environment) as second:
            with pytest.raises(DaemonFailed, match="is another stablediffusion_responsed running"):
                second.wait_ready()
            assert second.process.returncode == 78
        Client(own).close()
        first.kill()
    assert own.is_socket()
    with response_daemon(environment) as third:
        third.wait_ready()
        Client(own).close()
        assert third.stop() == 0
    assert not own.exists()


def test_hundreds_may_wait_to_be_let_in(environment: dict[str, str], folder: Path) -> None:
    own = folder / "crowded.sock"
    with response_daemon({**environment, "STABLEDIFFUSIOND_RESPONSES__SOCKET": str(own)}) as daemon:
        daemon.wait_ready()
        os.kill(daemon.process.pid, signal.SIGSTOP)
        try:
            with contextlib.ExitStack() as waiting:
                for _ in range(300):
                    one = waiting.enter_context(socket.socket(socket.AF_UNIX))
                    one.settimeout(0)
                    one.connect(str(own))
        finally:
            os.kill(daemon.process.pid, signal.SIGCONT)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"SOCKET": "/nowhere/responses.sock"}, "cannot make /nowhere/responses.sock: No such file or directory"),
        ({"SOCKET": str(CHECKOUT / "README.md")}, "README.md is no socket"),
        ({"HOST": "0.0.0.0"}, r"not on loopback.*set \[responses\] token or token_file"),
        ({"TOKEN": "short"}, r"\[responses\] token: must have 16 characters or more"),
    ],
    ids=["no folder", "no socket", "strangers", "short token"],
)
def test_settings_that_cannot_work_end_it(environment: dict[str, str], changes: dict[str, str], expected: str) -> None:
    changes = {f"STABLEDIFFUSIOND_RESPONSES__{name}": value for name, value in changes.items()}
    with response_daemon({**environment, **changes}) as daemon:
        with pytest.raises(DaemonFailed, match=expected):
            daemon.wait_ready()
        assert daemon.process.returncode == 78


def test_what_systemd_holds_is_held_to_the_same_rule(environment: dict[str, str]) -> None:
    with socket.create_server(("0.0.0.0", 0)) as held:
        script = f"import os; os.dup2({held.fileno()}, 3); os.environ['LISTEN_PID'] = str(os.getpid()); from stablediffusiond.responsed.daemon import main; raise SystemExit(main([]))"
        ended = subprocess.run(
            [sys.executable, "-c", script],
            env={**environment, "LISTEN_FDS": "1", "PYTHONPATH": str(CHECKOUT)},
            pass_fds=[held.fileno()], capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
    assert ended.returncode == 78
    assert "is not on loopback" in ended.stderr
