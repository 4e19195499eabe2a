"""What is said while a job is drawn: results on standard output, a progress bar on a terminal's standard error."""

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from stablediffusiond.client import Done, Event, Image, Progress

ShowProgress = Callable[[int, int], None]


class Report:
    """Paths and ids, or with ``as_json`` one JSON object a line."""

    def __init__(self, *, as_json: bool, silent: bool) -> None:
        self._as_json = as_json
        self._silent = silent  #: standard output carries the picture itself

    def submitted(self, job_id: str, *, waiting: bool) -> None:
        """The job is in the queue; its id is the result if nobody waits for more."""
        if self._as_json:
            _line(type="submitted", id=job_id)
        elif not waiting:
            click.echo(job_id)

    def event(self, event: Event, path: Path | None = None) -> None:
        """One event of the job; ``path`` is where its picture was written."""
        if self._as_json:
            _line(**_facts(event), **({"path": str(path)} if path else {}))
        elif path and not self._silent:
            click.echo(str(path))


def wants_progress(*, as_json: bool) -> bool:
    """Whether anybody is going to see how far the job is."""
    return as_json or sys.stderr.isatty()


@contextlib.contextmanager
def progress_bar(title: str) -> Iterator[ShowProgress]:
    """A bar on standard error if that is a terminal, and nothing at all else."""
    if not sys.stderr.isatty():
        yield lambda _step, _steps: None
        return
    from rich import console, progress  # noqa: PLC0415 (a tenth of a second that scripts need not pay)

    bar = progress.Progress(
        progress.SpinnerColumn(),
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(),
        progress.TaskProgressColumn(),
        progress.TimeElapsedColumn(),
        console=console.Console(stderr=True),
        transient=True,
    )
    with bar:
        task = bar.add_task(title, total=None)
        yield lambda step, steps: bar.update(task, completed=step, total=steps)


def _facts(event: Event) -> dict[str, object]:
    if isinstance(event, Image):
        facts = event.facts.model_dump(exclude_none=True)
        return {**facts, "job_type": facts["type"], "type": "image"}
    kind = "progress" if isinstance(event, Progress) else "done" if isinstance(event, Done) else "failed"
    return {"type": kind, **event.model_dump(exclude_none=True)}


def _line(**fields: object) -> None:
    click.echo(json.dumps(fields, ensure_ascii=False))
