"""What is secret is in no log, no answer and no title of a process, whatever goes wrong with it."""

import subprocess
import sys
from pathlib import Path

import pytest

from tools.daemons import CHECKOUT, Daemon, DaemonFailed, response_daemon
from tools.private_broker import PrivateBroker

PASSWORD = "barley-and-oats"
TOKEN = "open-sesame-and-nothing-else"
KEY = "-----BEGIN PRIVATE KEY-----\nbm8ga2V5IGF0IGFsbA==\n-----END PRIVATE KEY-----\n"
SECRETS = (PASSWORD, TOKEN, "bm8ga2V5IGF0IGFsbA")


@pytest.fixture
def secretive(environment: dict[str, str], broker: PrivateBroker) -> dict[str, str]:
    """Settings with a password that the broker refuses."""
    return {
        **environment,
        "STABLEDIFFUSIOND_BROKER__URL": f"amqp://guest:{PASSWORD}@127.0.0.1:{broker.port}/%2F",
        "STABLEDIFFUSIOND_RESPONSES__TOKEN": TOKEN,
        "STABLEDIFFUSIOND_LOG__LEVEL": "debug",
    }


def said_by(daemon: Daemon) -> str:
    title = Path(f"/proc/{daemon.process.pid}/cmdline")
    return daemon.log + "".join(daemon.notices) + (title.read_text() if title.exists() else "")


def by_client(environment: dict[str, str], *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "stablediffusiond.cli", *arguments],
        env=environment, cwd=CHECKOUT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def free_of_secrets(text: str) -> bool:
    return not any(secret in text for secret in SECRETS)


def test_a_password_that_is_refused(secretive: dict[str, str]) -> None:
    with Daemon("tests.requestd.faked", secretive) as requestd, response_daemon(secretive) as responsed:
        for daemon in (requestd, responsed):
            daemon.wait_log("wrong user or password")
            assert free_of_secrets(said_by(daemon))
    ended = by_client(secretive, '{"prompt": "cat"}')
    assert ended.returncode == 3
    assert "wrong user or password" in ended.stderr
    assert free_of_secrets(ended.stdout + ended.stderr)


@pytest.mark.parametrize(
    "url",
    [
        f"{PASSWORD}",
        f"http://guest:{PASSWORD}@localhost/",
        f"amqp://guest:{PASSWORD}#x@localhost:5672/",
        f"amqp://guest:{PASSWORD}/x@localhost:5672/",
        f"amqp://guest:{PASSWORD}?heartbeat=x@localhost:5672/",
        f"amqp://guest:{PASSWORD}@[::1/",
    ],
)
def test_a_url_that_cannot_work(secretive: dict[str, str], url: str) -> None:
    """The usual slip: a password with a character that a URL has another use for."""
    secretive["STABLEDIFFUSIOND_BROKER__URL"] = url
    with response_daemon(secretive) as daemon:
        assert daemon.process.wait(60) == 78
        assert "[broker] url" in daemon.log
        assert free_of_secrets(daemon.log)
    ended = by_client(secretive, '{"prompt": "cat"}')
    assert ended.returncode == 78
    assert free_of_secrets(ended.stdout + ended.stderr)


def test_a_key_that_is_none(secretive: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text(KEY)
    secretive["STABLEDIFFUSIOND_BROKER__URL"] = f"amqps://guest:{PASSWORD}@localhost:1/"
    secretive["STABLEDIFFUSIOND_BROKER__CERTIFICATE_FILE"] = str(tmp_path / "key.pem")
    with response_daemon(secretive) as daemon:
        with pytest.raises(DaemonFailed):
            daemon.wait_ready().wait_status("never")
        assert daemon.process.returncode == 78
        assert free_of_secrets(daemon.log)
