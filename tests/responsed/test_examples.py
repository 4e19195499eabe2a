"""The examples of docs/protocol.md, run as they stand there."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stablediffusiond.broker.topology import Topology
from tests.preloaded import response_daemon
from tests.responsed.conftest import Connect, Replies
from tools.daemons import CHECKOUT, Daemon
from tools.private_broker import PrivateBroker

EXAMPLES = CHECKOUT / "docs/examples"
#: More than any reader's buffer, and with bytes that look like the ends of lines.
PICTURE = b"\x89PNG\r\n\x1a\n" + os.urandom(300_000) + b"\n\n"
#: A slash and dots, which must not lead out of the folder.
JOB = "../a job/\u2028"


@pytest.fixture(scope="module")
def daemon(broker: PrivateBroker, names: Topology) -> Iterator[Daemon]:
    """One with the limits that it has by default: compilers make a machine slow."""
    environment = {
        "STABLEDIFFUSIOND_CONFIG": "",
        "STABLEDIFFUSIOND_BROKER__URL": broker.url,
        "STABLEDIFFUSIOND_QUEUES__REQUESTS": names.requests,
        "STABLEDIFFUSIOND_QUEUES__RESULTS": names.results,
    }
    with response_daemon(environment) as made:
        yield made.wait_ready().wait_status("clients$")


@pytest.fixture(scope="module")
def go_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("go")
    environment = {
        **os.environ, "GOCACHE": str(folder / "cache"), "GO111MODULE": "off", "CGO_ENABLED": "0", "GOFLAGS": "", "GOTOOLCHAIN": "local",
    }  # fmt: skip
    program, source = folder / "read_replies", EXAMPLES / "read_replies.go"
    subprocess.run(["go", "build", "-o", program, source], env=environment, check=True, timeout=280)
    assert subprocess.run(["gofmt", "-l", source], check=True, capture_output=True, timeout=60).stdout == b""
    return program


Start = Callable[[str], "subprocess.Popen[str]"]


@pytest.fixture(params=["go", "node"])
def start(request: pytest.FixtureRequest, daemon: Daemon, tmp_path: Path) -> Iterator[Start]:
    running = []

    def started(queue: str) -> "subprocess.Popen[str]":
        if request.param == "go":
            command = [request.getfixturevalue("go_program"), queue, f"localhost:{daemon.port()}"]
        else:
            command = ["node", EXAMPLES / "read_replies.mjs", queue, str(daemon.port())]
        program = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, encoding="utf-8")
        running.append(program)
        return program

    yield started
    for program in running:
        program.kill()
        program.communicate()


def test_it_writes_each_picture_and_acks_it(
    start: Start, connect: Connect, replies: Replies, queue: str, tmp_path: Path
) -> None:
    program = start(queue)
    assert program.stdout is not None
    assert program.stdout.readline() == "listening \n"
    for index in range(6):
        replies.image(queue, index, png=PICTURE, job=JOB)
    replies.done(queue, job="job")
    written = [program.stdout.readline() for _ in range(6)]
    assert [line.split()[0] for line in written] == ["written"] * 6
    assert program.stdout.readline() == "done job\n"
    files = sorted(tmp_path.iterdir())
    assert [file.read_bytes() == PICTURE for file in files] == [True] * 6
    assert [line.removeprefix("written ").strip("\n") for line in written] == [file.name for file in files]
    program.kill()
    replies.done(queue, job="the next")
    assert connect().listen(queue).receive().head["id"] == "the next", "all others were acked"


def test_it_says_what_is_wrong(start: Start) -> None:
    program = start("stablediffusiond.dead")
    assert program.stdout is not None
    assert program.stdout.readline().startswith("error the queue must be")
