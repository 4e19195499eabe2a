"""Every line of JSON that we write is one line to readers in other languages too."""

import contextlib
import json
import logging
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from stablediffusiond import frames
from stablediffusiond.broker.message import Message
from stablediffusiond.cli import dead, status
from stablediffusiond.cli.event_printer import EventPrinter
from stablediffusiond.client import Done
from stablediffusiond.json_lines import escape_line_ends
from stablediffusiond.logs import JsonFormatter
from stablediffusiond.messages.dead_letter import DeadLetterFacts
from stablediffusiond.messages.status import ServiceStatus
from tools.daemons import CHECKOUT

#: All that some language takes for the end of a line, what the file name of a picture may hold, and what has to stay.
ENDS = "\n\v\f\r\x1c\x1d\x1e\x85\u2028\u2029"
TEXT = f"a{'b'.join(ENDS)}c 🐈 é"
HALF = "\ud83d \udc80"


@given(st.text())
def test_it_is_the_same_json_on_one_line(text: str) -> None:
    line = escape_line_ends(json.dumps({text: [text]}, ensure_ascii=False))
    assert json.loads(line) == {text: [text]}
    assert line.splitlines() == [line]


def test_half_characters_can_be_written_and_whole_ones_are_left_alone() -> None:
    line = escape_line_ends(json.dumps(f"{HALF}{TEXT}", ensure_ascii=False))
    assert json.loads(line.encode()) == f"{HALF}{TEXT}"
    assert "🐈 é" in line


def socket_lines() -> bytes:
    """With a picture and without."""
    head = {"type": "message", "prompt": TEXT}
    return b"".join([*frames.encode(head), *frames.encode(head, b"picture"), *frames.encode(head)])


def test_python_reads_the_sockets_lines() -> None:
    lines = socket_lines().decode().splitlines()
    assert [json.loads(line)["prompt"] for line in lines] == [TEXT] * 3


def test_node_reads_the_sockets_lines() -> None:
    """Its readline ends a line at U+2028 and U+2029, as JavaScript does."""
    script = """
        const lines = require("node:readline").createInterface({ input: process.stdin });
        lines.on("line", (line) => console.log(JSON.stringify([JSON.parse(line).prompt])));
    """
    read = subprocess.run(["node", "-e", script], input=socket_lines(), capture_output=True, check=True, timeout=60)
    assert [json.loads(line) for line in read.stdout.decode().strip("\n").split("\n")] == [[TEXT]] * 3


def test_the_log_as_json_is_lines() -> None:
    record = logging.LogRecord("x", logging.INFO, __file__, 1, "%s", (TEXT + HALF,), None)
    line = JsonFormatter().format(record)
    assert line.splitlines() == [line]
    assert json.loads(line.encode())["message"] == TEXT + HALF


# What the command prints


def test_events_are_lines(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    printer = EventPrinter(as_json=True, silent=False)
    printer.submitted(TEXT, waiting=True)
    seconds = {"queued_seconds": 0, "engine_seconds": 0, "total_seconds": 0}
    printer.event(Done.model_validate({"id": TEXT, "images": 1, **seconds}), Path(f"cat{HALF}.png"))
    lines = capfdbinary.readouterr().out.decode().splitlines()
    assert [json.loads(line)["id"] for line in lines] == [TEXT] * 2
    assert json.loads(lines[1])["path"] == f"cat{HALF}.png"


def test_they_are_utf_8_whatever_the_terminal_takes() -> None:
    script = "from stablediffusiond.cli.standard_output import print_json; print_json('\"\\N{CAT}\"')"
    printed = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, "PYTHONIOENCODING": "latin-1"}, cwd=CHECKOUT,
        capture_output=True, check=True, timeout=60,
    )  # fmt: skip
    assert json.loads(printed.stdout) == "\N{CAT}"


@dataclass
class FakeClient:
    answer: ServiceStatus

    def __enter__(self) -> "FakeClient":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def status(self, *, timeout_seconds: float | None = None) -> ServiceStatus:
        return self.answer


def test_the_status_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = ServiceStatus.model_validate({"queues": {"normal": {"name": TEXT}}, "workers": []})
    monkeypatch.setattr("stablediffusiond.client.Client", lambda *_, **__: FakeClient(answer))
    ended = CliRunner().invoke(status.command, ["--json"], catch_exceptions=False)
    [line] = ended.stdout_bytes.decode().splitlines()
    assert json.loads(line)["queues"]["normal"]["name"] == TEXT


@dataclass
class FakeLetter:
    facts: DeadLetterFacts
    message: Message


@dataclass
class FakeQueue:
    letters: list[FakeLetter] = field(default_factory=list)

    async def each(self, visit: Callable[[Any], bool]) -> AsyncIterator[FakeLetter]:
        for letter in filter(visit, self.letters):
            yield letter

    async def leave(self, letter: FakeLetter) -> None:
        pass


@pytest.mark.parametrize("arguments", [["list", "--json"], ["show", TEXT]], ids=["list", "show"])
def test_dead_letters_are_lines(monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    body = json.dumps({"prompt": f"{TEXT}{HALF}"}).encode()
    letter = FakeLetter(DeadLetterFacts(id=TEXT, reason=TEXT, body_bytes=len(body)), Message(body, message_id=TEXT))

    @contextlib.asynccontextmanager
    async def opened(*_: object, **__: object) -> AsyncIterator[FakeQueue]:
        yield FakeQueue([letter])

    monkeypatch.setattr("stablediffusiond.client.dead_letters.opened", opened)
    ended = CliRunner().invoke(dead.command, arguments, catch_exceptions=False)
    text = ended.stdout_bytes.decode()
    assert json.loads(text)["id"] == TEXT
    assert text.splitlines() == text.rstrip("\n").split("\n")
