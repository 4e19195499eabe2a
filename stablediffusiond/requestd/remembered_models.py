"""Which models this host has drawn with: a file, since queues cannot be listed over AMQP.

A model that is taken out of the settings leaves its queues behind, and clients that know their names. The next daemon
with these settings learns from the file that it has to answer them.
"""

import contextlib
import json
import logging
import os
from collections.abc import Collection
from pathlib import Path

log = logging.getLogger(__name__)


class RememberedModels:
    """Those of the daemons of this host that take jobs from ``requests``."""

    def __init__(self, requests: str, folder: Path | None) -> None:
        """Without a ``folder`` they are remembered as long as this process lives."""
        self._path = None if folder is None else folder / f"models of {requests.replace('/', '_')}.json"
        self._names = self._read()

    def retired(self, served: Collection[str]) -> list[str]:
        """Those that are not among ``served``, which are remembered from now on."""
        if not set(served) <= self._names:
            self._names |= set(served)
            self._write()
        return sorted(self._names - set(served))

    def _read(self) -> set[str]:
        if self._path is None or not self._path.exists():
            return set()
        try:
            said = json.loads(self._path.read_bytes())
        except (OSError, ValueError) as error:
            log.warning("%s cannot be read: %s; queues of models that are gone are left as they are", self._path, error)
            return set()
        return {name for name in said if isinstance(name, str)} if isinstance(said, list) else set()

    def _write(self) -> None:
        if self._path is None:
            return
        part = self._path.with_suffix(f".{os.getpid()}")
        try:
            part.write_text(json.dumps(sorted(self._names)), "utf-8")
            part.replace(self._path)
        except OSError as error:
            log.warning("%s cannot be written: %s; the models of this daemon are not remembered", self._path, error)
            with contextlib.suppress(OSError):
                part.unlink()


def state_folder() -> Path | None:
    """Where systemd has us keep what outlives us (``StateDirectory=``)."""
    named = os.environ.get("STATE_DIRECTORY", "").split(":")[0]
    return Path(named) if named else None
