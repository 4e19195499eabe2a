"""The request daemon with a slow device that counts, and a log of when each job is taken and begun, and of each step.

    python -m tests.requestd.narrating GATE

Before its first step the device waits until somebody has opened and closed the named pipe GATE for writing.
"""

import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

from stablediffusiond.engine.job import Sample
from stablediffusiond.errors import JobError
from stablediffusiond.requestd import daemon
from stablediffusiond.requestd.in_flight import InFlightJobs
from tests.engine.fake import FakeDenoiser

STEP_SECONDS = 0.1


class GatedDenoiser(FakeDenoiser):
    def __init__(self, gate: Path) -> None:
        super().__init__()
        self._gate: Path | None = gate

    def begin(self, samples: Sequence[Sample]) -> dict[int, JobError]:
        for sample in samples:
            narrate(f"begun {sample.task.request.id}")
        return super().begin(samples)

    def step(self, samples: Sequence[Sample], rows_at_once: int) -> dict[int, JobError]:
        if self._gate is not None:
            self._gate.read_bytes()
            self._gate = None
        ends = any(sample.steps - sample.step == 1 for sample in samples)
        narrate("last step of some" if ends else "step")
        threading.Event().wait(STEP_SECONDS)
        return super().step(samples, rows_at_once)


def narrate(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    take = InFlightJobs.take

    def narrated_take(self: InFlightJobs, delivery: Any, *rest: Any, **named: Any) -> Any:
        narrate(f"taken {delivery.message.message_id}")
        return take(self, delivery, *rest, **named)

    patch.object(InFlightJobs, "take", narrated_take).start()
    patch.object(daemon, "_import_and_load", lambda *_: GatedDenoiser(Path(sys.argv[1]))).start()
    sys.exit(daemon.main([]))
