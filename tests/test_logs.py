"""Log records, as the journal gets them and as lines of JSON."""

import io
import json
import logging
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from stablediffusiond import logs
from stablediffusiond.settings import LogSettings


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "journal"))
        listening.settimeout(5)
        yield listening


@pytest.fixture(autouse=True)
def put_back() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def record(message: str, *, level: int = logging.INFO, **extra: object) -> logging.LogRecord:
    made = logging.LogRecord(
        "stablediffusiond.requestd.job_processor", level, "/x/job_processor.py", 7, message, (), None, "answer"
    )
    made.__dict__.update(extra)
    return made


def test_an_entry_has_the_fields_that_journalctl_finds_it_by(journal: socket.socket, tmp_path: Path) -> None:
    handler = logs.JournalHandler("stablediffusiond", tmp_path / "journal")
    logging.basicConfig(handlers=[handler], force=True)
    handler.emit(record("job 7 begins", level=logging.WARNING, **logs.of_job("7")))
    fields = dict(line.split(b"=", 1) for line in journal.recv(10_000).splitlines())
    assert fields[b"MESSAGE"] == b"job 7 begins"
    assert fields[b"PRIORITY"] == b"4"
    assert fields[b"JOB_ID"] == b"7"
    assert fields[b"SYSLOG_IDENTIFIER"] == b"stablediffusiond"
    handler.close()


def test_a_message_of_several_lines_is_one_entry(journal: socket.socket, tmp_path: Path) -> None:
    handler = logs.JournalHandler("x", tmp_path / "journal")
    handler.emit(record("one\nMESSAGE=two"))
    assert journal.recv(10_000).startswith(b"MESSAGE\n" + (15).to_bytes(8, "little") + b"one\nMESSAGE=two\n")
    handler.close()


def test_without_a_journal_it_goes_to_standard_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    handler = logs.JournalHandler("x", tmp_path / "nobody")
    handler.emit(record("still said", level=logging.ERROR))
    assert capsys.readouterr().err == "<3>still said\n"
    handler.close()


def test_a_record_that_nobody_takes_ends_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    handler = logs.JournalHandler("x", tmp_path / "nobody")
    with io.TextIOWrapper(io.FileIO("/dev/full", "w"), write_through=True) as full:
        monkeypatch.setattr("sys.stderr", full)
        handler.emit(record("not said"))
    handler.close()


def test_json_is_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up(LogSettings(format="json"), "x")
    logging.getLogger("stablediffusiond.x").info("job %s\nbegins", "7", extra=logs.of_job("7"))
    [line] = capsys.readouterr().err.splitlines()
    entry = json.loads(line)
    assert (entry["level"], entry["message"], entry["job_id"]) == ("info", "job 7\nbegins", "7")


def test_a_person_reads_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up(LogSettings(), "x")
    logging.getLogger("stablediffusiond.x").warning("the broker is away")
    assert capsys.readouterr().err.endswith(" WARNING the broker is away\n")
