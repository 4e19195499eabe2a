"""The request daemon with a device that only counts, and takes its time: ``python -m tests.requestd.faked``."""

import sys
import threading
from collections.abc import Sequence
from unittest.mock import patch

from stablediffusiond.engine.job import Sample
from stablediffusiond.errors import JobError
from stablediffusiond.requestd import daemon
from tests.engine.fake import FakeDenoiser

STEP_SECONDS = 0.1


class Unhurried(FakeDenoiser):
    def step(self, samples: Sequence[Sample], rows_at_once: int) -> dict[int, JobError]:
        threading.Event().wait(STEP_SECONDS)
        return super().step(samples, rows_at_once)


if __name__ == "__main__":
    patch.object(daemon, "_import_and_load", lambda *_: Unhurried()).start()
    sys.exit(daemon.main([]))
