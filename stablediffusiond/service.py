"""What every daemon does: its log, sd_notify, signals, and ending when a part of it ends."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any, Final

import click

from stablediffusiond import __version__, logs
from stablediffusiond.errors import SettingsError, StableDiffusiondError
from stablediffusiond.settings import Settings, load

log = logging.getLogger(__name__)

#: The first descriptor that systemd passes on.
_FIRST_INHERITED: Final = 3
#: How long a service manager that does not read may hold us up.
_NOTICE_TIMEOUT_SECONDS: Final = 1.0
#: What the help of both daemons ends with.
_EPILOG: Final = """SIGTERM and SIGINT stop it when what runs is finished, a second one at once. SIGHUP has it read its
settings again: the log and the limits change at once, the rest with a restart, and a bad file changes nothing.

\b
Exit codes:
    0  stopped as asked
    2  wrong command line
   70  a bug, a part that died, or a model or device that is not there now: to be started again
   78  settings that cannot work: not to be started again before they are mended
"""


def notify(**facts: str | int) -> None:
    """Tell systemd, in one datagram; does nothing without systemd. https://www.freedesktop.org/software/systemd/man/sd_notify.html"""
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


def inherited_sockets() -> list[socket.socket]:
    """What systemd listens on for us, https://www.freedesktop.org/software/systemd/man/sd_listen_fds.html; once."""
    mine = os.environ.pop("LISTEN_PID", "") == str(os.getpid())
    count = int(os.environ.pop("LISTEN_FDS", "0"))
    os.environ.pop("LISTEN_FDNAMES", None)
    if not mine:
        return []
    sockets = [socket.socket(fileno=number) for number in range(_FIRST_INHERITED, _FIRST_INHERITED + count)]
    for each in sockets:
        each.set_inheritable(False)
        each.setblocking(False)  # noqa: FBT003
    return sockets


async def feed_watchdog(healthy: Callable[[], bool]) -> None:
    """Feed systemd's watchdog as long as ``healthy`` returns true.

    ``healthy`` has to look at the work itself: a timer that only proves that timers run would hide that it hangs.
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


class Reload:
    """SIGHUP: the settings are read again, and what can change while we run does: the log, and the limits."""

    def __init__(self, config: Path | None, program: str) -> None:
        self._config = config
        self._program = program
        #: What the daemon does with new settings; set once it is ready.
        self.apply: Callable[[Settings], None] | None = None

    @contextlib.asynccontextmanager
    async def on_hangup(self) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGHUP)

    def _reload(self) -> None:
        if self.apply is None:
            log.warning("SIGHUP: not ready yet; the settings are as they were read at the start")
            return
        notify(RELOADING=1, MONOTONIC_USEC=time.monotonic_ns() // 1000)
        try:
            settings = load(self._config)
        except SettingsError as error:
            log.error("SIGHUP: %s; everything stays as it was", error)  # noqa: TRY400 (for operators, without a traceback)
        else:
            logs.set_up(settings.log, self._program)
            self.apply(settings)
            log.info("SIGHUP: log and limits are as in the settings now; the rest changes with a restart")
        notify(READY=1)


Serve = Callable[[Settings, Reload], Coroutine[object, object, None]]


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


def command_of(name: str, serve: Serve) -> click.Command:
    """A daemon's command line: read the settings, set up the log, serve until told to stop."""

    @click.command(name, help=serve.__doc__, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
    @click.option(
        "--config",
        metavar="FILE",
        type=click.Path(path_type=Path, dir_okay=False),
        help="Settings file; see settings.example.toml.",
    )
    @click.version_option(__version__, prog_name=name)
    def command(config: Path | None) -> int:
        settings = load(config)
        logs.set_up(settings.log, name)
        log.info("%s %s", name, __version__)
        asyncio.run(serve(settings, Reload(config, name)))
        log.info("%s: stopped", name)
        return 0

    return command


def run(name: str, arguments: list[str] | None, serve: Serve) -> int:
    """A daemon's ``main``; returns the exit code."""
    try:
        return int(command_of(name, serve).main(arguments, prog_name=name, standalone_mode=False) or 0)
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
