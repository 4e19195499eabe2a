"""What is printed while a job is drawn: results on standard output, a progress bar on a terminal's standard error."""

import base64
import contextlib
import json
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import click

from stablediffusiond.cli.standard_output import print_json
from stablediffusiond.client import Done, Event, Image, Preview, Progress

_TITLE_CHARACTERS: Final = 40


class EventPrinter:
    """Paths and ids, or with ``as_json`` one JSON object a line."""

    def __init__(self, *, as_json: bool, silent: bool) -> None:
        self._as_json = as_json
        self._silent = silent  #: standard output carries the picture itself

    def submitted(self, job_id: str, *, waiting: bool) -> None:
        """The job is in the queue; its id is the result if the pictures are not waited for."""
        if self._as_json:
            _line(type="submitted", id=job_id)
        elif not waiting:
            click.echo(job_id)

    def event(self, event: Event, path: Path | None = None) -> None:
        """One event of the job; ``path`` is where its picture was written."""
        if self._as_json:
            _line(**_facts(event), **({"path": str(path)} if path else {}))
        elif path and not self._silent:
            click.echo(click.format_filename(path))


def wants_progress(*, as_json: bool) -> bool:
    """Whether anybody is going to see how far the job is."""
    return as_json or sys.stderr.isatty()


class NoBar:
    """Where no terminal is: nothing to see."""

    def show(self, step: int, steps: int) -> None:
        """How far the job is."""

    def aside(self) -> contextlib.AbstractContextManager[None]:
        """Keep out of the way of what is written to the terminal meanwhile."""
        return contextlib.nullcontext()


class Bar(NoBar):
    """A bar on the last line of standard error."""

    def __init__(self, title: str) -> None:
        from rich import console, progress  # noqa: PLC0415 (a tenth of a second that scripts need not pay)

        self._progress = progress.Progress(
            progress.SpinnerColumn(),
            progress.TextColumn("{task.description}", markup=False),
            progress.BarColumn(),
            progress.TaskProgressColumn(),
            progress.TimeElapsedColumn(),
            console=console.Console(stderr=True),
            transient=True,
            redirect_stdout=False,  # click writes past it
        )
        self._task = self._progress.add_task(textwrap.shorten(title, _TITLE_CHARACTERS, placeholder="…"), total=None)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def show(self, step: int, steps: int) -> None:
        self._progress.update(self._task, completed=step, total=steps)

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        self._progress.stop()
        try:
            yield
        finally:
            self._progress.start()


def progress_bar(title: str, *, as_json: bool) -> contextlib.AbstractContextManager[NoBar]:
    """A bar if standard error is a terminal and nothing else shows how far the job is."""
    return Bar(title) if sys.stderr.isatty() and not as_json else contextlib.nullcontext(NoBar())


def _facts(event: Event) -> dict[str, object]:
    if isinstance(event, Image):
        facts = event.facts.model_dump(exclude_none=True)
        return {**facts, "job_type": facts["type"], "type": "image"}
    if isinstance(event, Preview):
        return {"type": "preview", **event.facts.model_dump(), "data": base64.b64encode(event.jpeg).decode()}
    kind = "progress" if isinstance(event, Progress) else "done" if isinstance(event, Done) else "failed"
    return {"type": kind, **event.model_dump(exclude_none=True)}


def _line(**fields: object) -> None:
    print_json(json.dumps(fields, ensure_ascii=False))
