"""While the model is loaded: systemd is asked to wait as long as the load gets on, and SIGTERM is obeyed.

What loads is a thread, deep inside torch, a driver or a file system, and cannot be told to stop. So a process that ends
meanwhile does not wait for it.
"""

import asyncio
import logging
import os
import resource
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, ParamSpec, TypeVar

from stablediffusiond.errors import LoadHung
from stablediffusiond.service import notify

log = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

#: Until jobs are taken systemd is asked, every so often, to wait so much longer.
_NOTICE_SECONDS: Final = 20
_EXTENSION_SECONDS: Final = 60
#: A load that neither computes nor reads for so long has a device, a hub or a file system that hangs.
_STANDSTILL_SECONDS: Final = 600
#: A driver that hangs may compute.
_LONGEST_LOAD_SECONDS: Final = 2 * 3600
#: Less is what heartbeats and this watch do.
_WORK_SECONDS: Final = 1.0
_WORK_BYTES: Final = 2**20
_IO: Final = Path("/proc/self/io")
_LOADS: Final = "loading the model"


def as_load(work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Do ``work`` in a thread that ``leave`` knows by its name."""
    thread = threading.current_thread()
    name, thread.name = thread.name, _LOADS
    try:
        return work(*args, **kwargs)
    finally:
        thread.name = name


def leave(code: int) -> int:
    """Return ``code``, with which the program is about to end; end it at once where Python would wait for a load."""
    if any(thread.name == _LOADS for thread in threading.enumerate()):
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


async def loaded_unless(stop: asyncio.Event, loading: asyncio.Task[R], watching: asyncio.Task[None]) -> R | None:
    """What ``loading`` comes to, or None if we are to stop first.

    Raises:
        LoadHung: ``watching`` has seen it stand still.
    """
    stopping = asyncio.create_task(stop.wait(), name="stop")
    try:
        await asyncio.wait({loading, stopping, watching}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
    if watching.done():
        watching.result()
    return await loading if loading.done() and not stop.is_set() else None


async def extend_start_timeout(loading: asyncio.Task[object]) -> None:
    """Ask systemd to wait as long as the start takes, since a model may be large and a broker late; not for ever.

    Raises:
        LoadHung: the load stands still.
    """
    began, progress = time.monotonic(), _Progress()
    while True:
        if not loading.done():
            still = progress.still_seconds()
            if still > _STANDSTILL_SECONDS or time.monotonic() - began > _LONGEST_LOAD_SECONDS:
                taken = time.monotonic() - began
                raise LoadHung(f"the model is not loaded after {taken:.0f} s, and did nothing for {still:.0f} s")
        notify(EXTEND_TIMEOUT_USEC=_EXTENSION_SECONDS * 1_000_000)
        await asyncio.sleep(_NOTICE_SECONDS)


class _Progress:
    """Whether this process computes, reads or writes."""

    def __init__(self) -> None:
        self._seconds, self._bytes = _work_done()
        self._since = time.monotonic()

    def still_seconds(self) -> float:
        """How long it has done nothing to speak of."""
        seconds, moved = _work_done()
        if seconds - self._seconds > _WORK_SECONDS or moved - self._bytes > _WORK_BYTES:
            self._seconds, self._bytes, self._since = seconds, moved, time.monotonic()
        return time.monotonic() - self._since


def _work_done() -> tuple[float, int]:
    """Seconds of computing, and bytes that were read and written; of mapped files, those that were waited for."""
    try:
        counted = dict(line.split(": ") for line in _IO.read_text("ascii").splitlines())
    except OSError:
        counted = {}
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_majflt * resource.getpagesize()
    return time.process_time(), faults + int(counted.get("rchar", 0)) + int(counted.get("wchar", 0))
