"""Where log records go: to the journal with fields, to a person as lines, or to a machine as JSON."""

import json
import logging
import os
import socket
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from stablediffusiond.json_lines import escape_line_ends
from stablediffusiond.settings import LogSettings

JOURNAL: Final = Path("/run/systemd/journal/socket")
#: syslog(3)'s levels, which are the journal's.
_PRIORITIES: Final = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}
#: Fields of a record beside its text, given with ``extra=of_job(…)``, and their names in the journal.
_FIELDS: Final = {"job_id": "JOB_ID"}
#: A datagram holds about 200 kB; a longer message is of no use.
_LONGEST_BYTES: Final = 64_000


def of_job(job_id: str) -> dict[str, str]:
    """``extra`` for a record about a job: ``journalctl JOB_ID=…`` finds it."""
    return {"job_id": job_id}


def set_up(settings: LogSettings, program: str) -> None:
    """Send what ``program`` logs where the settings want it."""
    handler = _handler(settings, program)
    logging.basicConfig(level=settings.level.upper(), handlers=[handler], force=True)


def _handler(settings: LogSettings, program: str) -> logging.Handler:
    if settings.format == "auto" and _journal_reads_standard_error() and JOURNAL.exists():
        return JournalHandler(program)
    handler = logging.StreamHandler()
    if settings.format == "json":
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s"))
    return handler


def _journal_reads_standard_error() -> bool:
    """As systemd.exec(5) has it: $JOURNAL_STREAM names the device and inode of a stream that the journal reads."""
    try:
        status = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):  # no standard error, or not a file
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


class JournalHandler(logging.Handler):
    """Writes each record as one entry with fields. https://systemd.io/JOURNAL_NATIVE_PROTOCOL/"""

    def __init__(self, program: str, path: Path = JOURNAL) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(message)s"))  # the level and the rest are fields of their own
        self._program = program
        self._path = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)

    def emit(self, record: logging.LogRecord) -> None:
        """Send ``record``; where the journal takes none, to standard error, which it also reads."""
        fields = {
            "MESSAGE": self.format(record).encode()[:_LONGEST_BYTES],
            "PRIORITY": str(_PRIORITIES.get(record.levelno, 5)).encode(),
            "SYSLOG_IDENTIFIER": self._program.encode(),
            "LOGGER": record.name.encode(),
            "CODE_FILE": record.pathname.encode(),
            "CODE_LINE": str(record.lineno).encode(),
            "CODE_FUNC": record.funcName.encode() if record.funcName else b"",
        }
        fields |= {name: str(value).encode() for name, value in _extra_fields(record, _FIELDS).items()}
        try:
            self._socket.sendto(b"".join(_entry(name, value) for name, value in fields.items()), self._path)
        except OSError:
            self._write_to_stderr(f"<{fields['PRIORITY'].decode()}>{self.format(record)}\n", record)

    def _write_to_stderr(self, line: str, record: logging.LogRecord) -> None:
        try:
            sys.stderr.write(line)
        except OSError:
            self.handleError(record)  # never raises: a record that cannot be written must not end the daemon

    def close(self) -> None:
        self._socket.close()
        super().close()


class JsonFormatter(logging.Formatter):
    """One object a line."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": super().format(record),
            **_extra_fields(record, {name: name for name in _FIELDS}),
        }
        return escape_line_ends(json.dumps(entry, ensure_ascii=False))


def _extra_fields(record: logging.LogRecord, names: dict[str, str]) -> dict[str, object]:
    return {shown: getattr(record, name) for name, shown in names.items() if hasattr(record, name)}


def _entry(name: str, value: bytes) -> bytes:
    """A field: on one line where it fits, else with its length."""
    if b"\n" not in value:
        return name.encode() + b"=" + value + b"\n"
    return name.encode() + b"\n" + len(value).to_bytes(8, "little") + value + b"\n"
