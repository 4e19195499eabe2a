"""``cancel``: ending jobs."""

from pathlib import Path

import click


@click.command("cancel", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("job_ids", metavar="ID...", nargs=-1, required=True)
@click.option("--timeout", metavar="SECONDS", type=click.FloatRange(min=0, min_open=True), help="Wait at most so long.")
@click.option("--config", metavar="FILE", type=click.Path(path_type=Path), help="Settings; see settings.example.toml.")
def command(job_ids: tuple[str, ...], timeout: float | None, config: Path | None) -> None:
    """End the jobs with these ids.

    One that is being drawn ends at its next step, one that waits when its turn comes. Each is answered
    `failed` / `cancelled`, where its replies go. An id that no job has is no error.

    Exit codes: 3 the broker cannot be reached; 4 --timeout came first.
    """
    from stablediffusiond.client import Client  # noqa: PLC0415 (--help needs no AMQP)
    from stablediffusiond.client.deadline import Deadline  # noqa: PLC0415
    from stablediffusiond.settings import load  # noqa: PLC0415

    deadline = Deadline(timeout)
    with Client(load(config)) as client:
        for job_id in job_ids:
            client.cancel(job_id, timeout_seconds=deadline.left_seconds())
