"""How a daemon lives: its log, its word to systemd, its signals, and that it ends when a part of it does."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any, Final

import click

from stablediffusiond import __version__
from stablediffusiond.errors import StableDiffusiondError
from stablediffusiond.settings import LogSettings, Settings, load

log = logging.getLogger(__name__)

#: What the journal reads at the start of a line on standard error (sd-daemon(3)).
_JOURNAL_PRIORITIES: Final = {
    logging.DEBUG: "<7>", logging.INFO: "<6>", logging.WARNING: "<4>", logging.ERROR: "<3>", logging.CRITICAL: "<2>"
}  # fmt: skip


class _JournalFormatter(logging.Formatter):
    """Level by prefix on each line; the journal knows the time and the program itself."""

    def format(self, record: logging.LogRecord) -> str:
        prefix = _JOURNAL_PRIORITIES.get(record.levelno, "<5>")
        return "\n".join(prefix + line for line in super().format(record).splitlines())


#: How long a service manager that does not read may hold us up.
_NOTICE_TIMEOUT_SECONDS: Final = 1.0


def set_up_logging(settings: LogSettings) -> None:
    """Log to standard error: for the journal when it reads there, else for people."""
    handler = logging.StreamHandler()
    if os.environ.get("JOURNAL_STREAM"):
        handler.setFormatter(_JournalFormatter("%(message)s"))
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s"))
    logging.basicConfig(level=settings.level.upper(), handlers=[handler], force=True)


def notify(**facts: str | int) -> None:
    """Tell systemd, in one datagram; does nothing where nobody listens. https://www.freedesktop.org/software/systemd/man/sd_notify.html"""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    message = "\n".join(f"{name}={value}" for name, value in facts.items())
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.settimeout(_NOTICE_TIMEOUT_SECONDS)
        try:
            sender.connect(address)
            sender.sendall(message.encode())
        except OSError as error:
            log.warning("systemd cannot be told %s: %s", " ".join(facts), error)


async def feed_watchdog(healthy: Callable[[], bool]) -> None:
    """Tell systemd's watchdog that the work goes on, for as long as ``healthy`` says so.

    ``healthy`` has to look at the work itself: a timer that only proves that timers run keeps a hung daemon alive.
    """
    interval_seconds = int(os.environ.get("WATCHDOG_USEC", "0")) / 1_000_000 / 3
    while interval_seconds:
        if healthy():
            notify(WATCHDOG=1)
        await asyncio.sleep(interval_seconds)


@contextlib.asynccontextmanager
async def stop_signal() -> AsyncIterator[asyncio.Event]:
    """An event that the first SIGTERM or SIGINT sets. The second one ends the process at once."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    watched = (signal.SIGTERM, signal.SIGINT)

    def on_signal(number: signal.Signals) -> None:
        log.info("%s: stopping; once more ends at once", number.name)
        release()
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # and not a KeyboardInterrupt, which would begin to clean up
        stop.set()

    def release() -> None:
        for each in watched:
            loop.remove_signal_handler(each)

    for each in watched:
        loop.add_signal_handler(each, on_signal, each)
    try:
        yield stop
    finally:
        release()


async def first_of(work: Coroutine[object, object, object], *parts: asyncio.Future[None]) -> None:
    """Do ``work`` to its end, unless one of ``parts``, which should go on for ever, ends first; then raise its error.

    Raises:
        RuntimeError: a part ended without one.
    """
    working = asyncio.ensure_future(work)
    either: set[asyncio.Future[Any]] = {working, *parts}
    try:
        done, _ = await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    finally:
        working.cancel()
    for part in done - {working}:
        part.result()
        raise RuntimeError(f"{part} ended")
    working.result()


def run(name: str, arguments: list[str] | None, serve: Callable[[Settings], Coroutine[object, object, None]]) -> int:
    """A daemon's ``main``: read the settings, set up the log, serve until told to stop; returns the exit code."""

    @click.command(name, context_settings={"help_option_names": ["-h", "--help"]})
    @click.option(
        "--config", type=click.Path(path_type=Path, dir_okay=False), help="Settings file; see settings.example.toml."
    )
    @click.version_option(__version__, prog_name=name)
    def command(config: Path | None) -> int:
        settings = load(config)
        set_up_logging(settings.log)
        log.info("%s %s", name, __version__)
        asyncio.run(serve(settings))
        log.info("%s: stopped", name)
        return 0

    command.help = serve.__doc__
    try:
        return int(command.main(arguments, prog_name=name, standalone_mode=False) or 0)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except StableDiffusiondError as error:
        notify(STATUS=str(error).splitlines()[0])
        print(f"{name}: {error}", file=sys.stderr)  # noqa: T201 (there may be no log yet)
        return error.exit_code
    except Exception:
        log.exception("%s: ended by an error that is a bug", name)
        return StableDiffusiondError.exit_code
