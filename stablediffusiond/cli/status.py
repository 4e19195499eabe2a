"""``status``: what is queued, who draws, and how fast."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from stablediffusiond.cli.standard_output import print_json

if TYPE_CHECKING:
    from stablediffusiond.client import ServiceStatus

_PAUSE_SECONDS: Final = 1.0


@click.command("status", context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--watch", is_flag=True, help="Show it anew every second, until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object; with --watch, one a line every second.")
@click.option("--timeout", metavar="SECONDS", type=click.FloatRange(min=0, min_open=True), help="Wait at most so long.")
@click.option("--config", metavar="FILE", type=click.Path(path_type=Path), help="Settings; see settings.example.toml.")
def command(*, watch: bool, as_json: bool, timeout: float | None, config: Path | None) -> None:
    """Show how the service is: its queues, each request daemon with its jobs in flight, and how fast they are drawn.

    The broker counts the queues, also while no daemon is there. A daemon that does not answer within two seconds is
    only counted.

    The JSON is described by docs/schema/service.schema.json. Exit codes: 3 the broker cannot be reached; 4 --timeout
    came first.
    """
    from stablediffusiond.client import Client  # noqa: PLC0415 (--help needs no AMQP)
    from stablediffusiond.settings import load  # noqa: PLC0415

    with Client(load(config), reconnect_seconds=0) as client:
        if as_json:
            _print(lambda: client.status(timeout_seconds=timeout), watch=watch)
        else:
            _show(lambda: client.status(timeout_seconds=timeout), watch=watch)


def _print(ask: Callable[[], "ServiceStatus"], *, watch: bool) -> None:
    print_json(_line(ask()))
    while watch:
        time.sleep(_PAUSE_SECONDS)
        print_json(_line(ask()))


def _line(status: "ServiceStatus") -> str:
    return status.model_dump_json(exclude_none=True)


def _show(ask: Callable[[], "ServiceStatus"], *, watch: bool) -> None:
    from stablediffusiond.cli import status_view  # noqa: PLC0415 (a tenth of a second that scripts need not pay)

    status = ask()
    if not watch:
        status_view.show(status)
        return
    with status_view.live(status) as update:
        while True:
            time.sleep(_PAUSE_SECONDS)
            update(_next(ask))


def _next(ask: Callable[[], "ServiceStatus"]) -> "ServiceStatus | str":
    """The status now, or why there is none: ``--watch`` goes on until the service is back."""
    from stablediffusiond.errors import BrokerError, TimedOut  # noqa: PLC0415

    try:
        return ask()
    except (BrokerError, TimedOut) as error:
        return str(error)
