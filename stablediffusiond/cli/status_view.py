"""What ``status`` shows to people: a table of the queues, and below it each request daemon with its jobs."""

import contextlib
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from stablediffusiond.messages.status import JobStatus, ModelStatus, ServiceStatus, WorkerStatus

_BAR_CHARACTERS: Final = 12
#: Queues that should be empty: what lies there waits for an operator.
_FOR_OPERATORS: Final = ("crashed", "dead", "unroutable")


def show(status: ServiceStatus) -> None:
    """Print it once."""
    Console().print(_page(status))


@contextlib.contextmanager
def live(status: ServiceStatus) -> Iterator[Callable[[ServiceStatus | str], None]]:
    """Keep it on the screen; what is yielded shows the next one, or in its place why there is none."""
    with Live(_page(status), auto_refresh=False, screen=Console().is_terminal) as screen:

        def update(again: ServiceStatus | str) -> None:
            screen.update(Text(again, "red") if isinstance(again, str) else _page(again), refresh=True)

        yield update


def _page(status: ServiceStatus) -> RenderableType:
    return Group(_queues(status), *_notes(status), *(_worker(worker) for worker in status.workers))


def _queues(status: ServiceStatus) -> RenderableType:
    table = Table("queue", box=None, header_style="dim", pad_edge=False)
    for heading in ("waiting", "readers"):
        table.add_column(heading, justify="right")
    for role, queue in status.queues.items():
        urgent = role in _FOR_OPERATORS and queue.messages
        table.add_row(queue.name, _count(queue.messages), _count(queue.consumers), style="yellow" if urgent else None)
    for queue in status.model_queues:
        table.add_row(Text(queue.name), _count(queue.messages), _count(queue.consumers))
    return table


def _count(number: int | None) -> str:
    return "-" if number is None else str(number)


def _notes(status: ServiceStatus) -> Iterator[Text]:
    """What needs a sentence."""
    if status.publishes_blocked:
        yield Text(
            "\nThe broker takes no publishes (memory or disk alarm), so no request daemon could be asked.", "red"
        )
    elif status.no_daemon_runs:
        yield Text("\nNo request daemon is running; start one: systemctl start stablediffusiond", "yellow")
    elif (silent := (status.workers_connected or 0) - len(status.workers)) > 0:
        yield Text(f"\n{silent} of {status.workers_connected} request daemons do not answer.", "red")


def _worker(worker: WorkerStatus) -> RenderableType:
    memory = f", {worker.device_memory_bytes / 2**30:.1f} GiB held" if worker.device_memory_bytes is not None else ""
    what = f"  {worker.model} on {worker.device}, {worker.dtype}{memory}"
    up = timedelta(seconds=int(worker.uptime_seconds))
    ended = f"{worker.images_total} pictures, {worker.jobs_done} jobs done, {worker.jobs_failed} failed"
    sizes = f"{worker.images_at_a_time} images, {worker.rows_at_a_time} rows at a time"
    parts: list[RenderableType] = [
        Text.assemble("\n", (f"{worker.host} {worker.pid}", "bold"), what),
        Text(f"  {worker.images_per_second:.2f} img/s in the last minute; {ended}"),
        Text(f"  up {up}, version {worker.version}; {sizes}"),
        Padding(_calls(worker), (0, 0, 0, 2)),
    ]
    if len(worker.models) > 1:
        parts.append(Padding(_models(worker.models), (0, 0, 0, 2)))
    if worker.shortcoming:
        parts.append(Text(f"  draws on {worker.device}: {worker.shortcoming}", "yellow"))
    if worker.paused:
        parts.append(Text(f"  paused: {worker.paused}", "yellow"))
    if not worker.healthy:
        parts.append(Text("  the device does not answer", "red"))
    if worker.jobs:
        parts.append(Padding(_jobs(worker.jobs), (0, 0, 0, 2)))
    return Group(*parts)


def _calls(worker: WorkerStatus) -> RenderableType:
    """How long a call of the denoiser takes by its rows."""
    table = Table.grid(padding=(0, 2))
    for _ in worker.table:
        table.add_column(justify="right")
    table.add_row("rows", *(str(call.rows) for call in worker.table), style="dim")
    table.add_row("ms", *(_milliseconds(call.seconds) for call in worker.table), style="dim")
    return table


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f}" if seconds >= 0.01 else f"{seconds * 1000:.2g}"


def _models(models: list[ModelStatus]) -> RenderableType:
    """What is on the device, and what jobs wait for there."""
    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("model", "", "GB", "jobs", "waiting", "longest"):
        table.add_column(heading)
    for model in models:
        size = f"{size / 1e9:.2f}" if (size := model.nbytes or model.host_bytes) else ""
        longest = f"{model.longest_wait_seconds:.0f} s" if model.waiting else ""
        table.add_row(Text(model.name), model.state, size, str(model.jobs), str(model.waiting or ""), longest)
    return table


def _jobs(jobs: list[JobStatus]) -> RenderableType:
    """Fits into eighty characters, since an id that is cut off could not be cancelled."""
    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("job", no_wrap=True)
    for heading in ("priority", "", "steps", "images"):
        table.add_column(heading)
    for job in jobs:
        bar: RenderableType = job.state
        if job.state == "drawing" and job.steps:
            bar = ProgressBar(total=job.steps, completed=job.step, width=_BAR_CHARACTERS)
        steps = f"{job.step}/{job.steps}" if job.steps else ""
        images = f"{job.images_drawn}/{job.images}" if job.images is not None else ""
        table.add_row(Text(job.id or "not read yet"), job.priority, bar, steps, images)
    return table
