"""Bringing one job to the service, and its pictures home."""

import contextlib
from pathlib import Path
from typing import Final

import click

from stablediffusiond.cli.event_printer import EventPrinter, NoBar, progress_bar, wants_progress
from stablediffusiond.cli.output_files import OutputFiles
from stablediffusiond.cli.standard_output import Unwritable
from stablediffusiond.client import Client, Failed, Image, Job, Progress
from stablediffusiond.client.deadline import Deadline
from stablediffusiond.errors import BrokerError, InvalidRequest, JobFailed, ResponsesAway, TimedOut
from stablediffusiond.messages.request import Request
from stablediffusiond.settings import load

#: How long the broker may take to confirm a cancellation, and the job to end by it.
_CANCEL_SECONDS: Final = 1
_GOODBYE_SECONDS: Final = 3


def enqueue(request: Request, config: Path | None, *, as_json: bool) -> None:
    """Put the job into the queue and print its id."""
    with Client(load(config)) as client:
        client.enqueue(request)
    EventPrinter(as_json=as_json, silent=False).submitted(request.id, waiting=False)


def draw(
    request: Request, output: str | None, config: Path | None, *, timeout_seconds: float | None, as_json: bool
) -> None:
    """Put the job into the queue, wait, and write its pictures.

    Raises:
        JobFailed, InvalidRequest: as the daemon says.
        TimedOut: whatever was waited for; the job, if there was one, was cancelled.
        Unwritable: the job was cancelled.
        ResponsesAway, BrokerError: with what has become of the job.
    """
    deadline = Deadline(timeout_seconds)
    settings = load(config)
    files = OutputFiles(output, request)
    printer = EventPrinter(as_json=as_json, silent=files.to_stdout)
    with Client(settings, progress=wants_progress(as_json=as_json)) as client:
        client.connect(timeout_seconds=deadline.left_seconds())  # until this is done there is nothing to cancel
        job = None
        try:
            job = client.submit(request, timeout_seconds=deadline.left_seconds())
            printer.submitted(job.id, waiting=True)
            with progress_bar(request.prompt, as_json=as_json) as bar:
                _follow(job, files, printer, bar, deadline)
        except ResponsesAway as error:
            if job is None:
                raise
            kept = f"job {job.id} goes on; its pictures wait in the queue {client.queue}"
            raise ResponsesAway(f"{error}; {kept}") from None
        except (KeyboardInterrupt, TimedOut, Unwritable, OSError):
            _cancel(client, request.id, job)
            raise


def _follow(job: Job, files: OutputFiles, printer: EventPrinter, bar: NoBar, deadline: Deadline) -> None:
    for event in job.events(timeout_seconds=deadline.left_seconds()):
        if isinstance(event, Progress):
            bar.show(event.step, event.steps)
        path = files.write(event.facts.index, event.data) if isinstance(event, Image) else None
        with bar.aside() if path else contextlib.nullcontext():
            printer.event(event, path)
        if isinstance(event, Failed):
            raise _why(event)


def _why(failed: Failed) -> JobFailed | InvalidRequest:
    error = failed.error
    if error.code == "invalid_request":
        return InvalidRequest(error.message, field=error.field)
    return JobFailed(error.code, f"job {failed.id} failed ({error.code}): {error.message}", field=error.field)


def _cancel(client: Client, job_id: str, job: Job | None) -> None:
    """Have the job stopped, and wait a moment until it is, so that nothing of it stays behind."""
    click.echo(f"stablediffusion_client: cancelling job {job_id}", err=True)
    try:
        client.cancel(job_id, timeout_seconds=_CANCEL_SECONDS)
        if job is not None:
            for _ in job.events(timeout_seconds=_GOODBYE_SECONDS):
                pass
    except (BrokerError, ResponsesAway, TimedOut) as error:
        click.echo(f"stablediffusion_client: whether it stops is not known: {error}", err=True)
