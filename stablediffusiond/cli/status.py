"""``status``: what is queued, who draws, and how fast."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from stablediffusiond.cli.standard_output import print_json

if TYPE_CHECKING:
    from stablediffusiond.client import Client, ServiceStatus

_PAUSE_SECONDS: Final = 1.0


@click.command("status", context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--watch", is_flag=True, help="Show it anew every second, until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object; with --watch, one a line every second.")
@click.option("--config", metavar="FILE", type=click.Path(path_type=Path), help="Settings; see settings.example.toml.")
def command(*, watch: bool, as_json: bool, config: Path | None) -> None:
    """Show how the service is: its queues, each request daemon with the jobs in its hands, and how fast they are drawn.

    The broker counts the queues, also while no daemon is there. A daemon that does not answer within two seconds is
    only counted.

    The JSON is described by docs/schema/service.schema.json. Exit code 3: the broker cannot be reached.
    """
    from stablediffusiond.client import Client  # noqa: PLC0415 (--help needs no AMQP)
    from stablediffusiond.settings import load  # noqa: PLC0415

    with Client(load(config), reconnect_seconds=0) as client:
        if as_json:
            _print(client, watch=watch)
        else:
            _show(client, watch=watch)


def _print(client: "Client", *, watch: bool) -> None:
    print_json(_line(client.status()))
    while watch:
        time.sleep(_PAUSE_SECONDS)
        print_json(_line(client.status()))


def _line(status: "ServiceStatus") -> str:
    return status.model_dump_json(exclude_none=True)


def _show(client: "Client", *, watch: bool) -> None:
    from stablediffusiond.cli import status_view  # noqa: PLC0415 (a tenth of a second that scripts need not pay)

    status = client.status()
    if not watch:
        status_view.show(status)
        return
    with status_view.live(status) as update:
        while True:
            time.sleep(_PAUSE_SECONDS)
            update(_next(client))


def _next(client: "Client") -> "ServiceStatus | str":
    """How it is now, or why that cannot be said; whoever watches wants to see it come back."""
    from stablediffusiond.errors import BrokerError  # noqa: PLC0415

    try:
        return client.status()
    except BrokerError as error:
        return str(error)
