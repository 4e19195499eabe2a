"""Models that could not be loaded: they are let be for a while, and the jobs that want them meanwhile know why."""

import time
from typing import Final

from stablediffusiond.errors import ModelError

#: A model is tried again for a job that comes so much later.
RETRY_SECONDS: Final = 60.0


class FailedLoads:
    def __init__(self) -> None:
        self._failed: dict[str, tuple[float, str]] = {}  #: when, and why

    def note(self, model: str, why: str) -> None:
        self._failed[model] = time.monotonic(), why

    def check(self, model: str) -> None:
        """Raise ModelError if ``model`` has failed lately."""
        if model in self._failed:
            when, why = self._failed[model]
            if time.monotonic() - when < RETRY_SECONDS:
                raise ModelError(why)
            del self._failed[model]
