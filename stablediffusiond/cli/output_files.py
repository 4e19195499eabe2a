"""Where pictures go: the names that ``--output`` stands for, and files that appear whole or not at all.

Questions about a path go to os.path, for which what may not be looked at is not there; pathlib raises PermissionError.
"""

import os
import re
import string
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click

from stablediffusiond.cli.standard_output import Unwritable, all_written
from stablediffusiond.messages.request import Request
from stablediffusiond.picture_formats import SUFFIXES

STDOUT: Final = "-"
_DEFAULT: Final = "{id}"
_FIELDS: Final = ("id", "index", "seed")


class OutputFiles:
    """One place for each picture of a job, known and tried before the job is submitted."""

    def __init__(self, output: str | None, request: Request) -> None:
        """Raise click.UsageError when a place cannot be written."""
        self.to_stdout = output == STDOUT
        self._paths = [] if self.to_stdout else _paths(output, request)
        if self.to_stdout and request.count > 1:
            raise click.UsageError("-o - writes one picture, and --count asks for more; name files instead")
        if self.to_stdout and sys.stdout.isatty():
            raise click.UsageError("-o - would write a picture to the terminal; send it to a file or a program")
        for path in self._paths:
            if os.path.isdir(path):
                raise click.UsageError(f"-o: {path} is a folder")
        for folder in {path.resolve().parent for path in self._paths if not _is_device(path)}:
            _try_writing(folder)

    def write(self, index: int, data: bytes) -> Path | None:
        """Write picture ``index``; returns its path, or None for standard output.

        Raises:
            Unwritable: with the error of the system.
        """
        if self.to_stdout:
            with all_written():
                sys.stdout.buffer.write(data)
            return None
        path = self._paths[index]
        try:
            _write_whole(path, data)
        except OSError as error:
            raise Unwritable(f"cannot write {path}: {error.strerror}") from None
        return path


def _paths(output: str | None, request: Request) -> list[Path]:
    default = _DEFAULT + SUFFIXES[request.format]
    pattern = output or default
    if output and (output.endswith("/") or os.path.isdir(output)):
        pattern = str(Path(output.replace("{", "{{").replace("}", "}}")) / default)
    named = set(_fields(pattern))
    if request.count > 1 and not named & {"index", "seed"}:
        stem, suffix = os.path.splitext(pattern)
        pattern = f"{stem}-{{index}}{suffix}"
    job_id = re.sub(r"[^A-Za-z0-9._-]|^\.", "_", request.id)  # an id is any text, a file name is not
    try:
        return [
            Path(pattern.format(id=job_id, index=index, seed=request.image_seed(index)))
            for index in range(request.count)
        ]
    except ValueError as error:
        raise click.UsageError(f"-o: {output}: {error}") from None


def _fields(pattern: str) -> Iterator[str]:
    """The names in braces."""
    try:
        names = [name for _, name, _, _ in string.Formatter().parse(pattern) if name is not None]
    except ValueError as error:
        raise click.UsageError(f"-o: {pattern}: {error}; write {{{{ for a brace") from None
    for name in names:
        if name not in _FIELDS:
            known = ", ".join(f"{{{field}}}" for field in _FIELDS)
            raise click.UsageError(f"-o: {pattern}: unknown {{{name}}}; known: {known}; write {{{{ for a brace")
        yield name


def _is_device(path: Path) -> bool:
    """Whether ``path`` is something like /dev/null or a pipe, which is written to and not replaced."""
    return os.path.exists(path) and not os.path.isfile(path)


def _try_writing(folder: Path) -> None:
    """access(2) allows root everything on a read-only disk; so try."""
    probe = _part(folder)
    try:
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        raise click.UsageError(f"-o: cannot write into {folder}: {error.strerror}") from None


def _write_whole(path: Path, data: bytes) -> None:
    """Replace ``path`` in one step. A link is followed, as cp does."""
    if _is_device(path):
        path.write_bytes(data)
        return
    path = path.resolve()
    part = _part(path.parent)
    try:
        part.write_bytes(data)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _part(folder: Path) -> Path:
    return folder / f".{uuid.uuid4()}.part"
