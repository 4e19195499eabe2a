"""How this daemon is: in full for who asks over the broker, in a line for systemd."""

import os
import socket

from stablediffusiond import __version__
from stablediffusiond.engine.capacity import Capacity
from stablediffusiond.engine.engine import Denoiser, Engine
from stablediffusiond.messages.status import CallTime, JobState, JobStatus, WorkerStatus
from stablediffusiond.requestd.ledger import Held, Ledger
from stablediffusiond.requestd.tally import Tally


class Report:
    """Made once the model is there; looks at the other parts and changes none of them."""

    def __init__(
        self, *, model: str, denoiser: Denoiser, capacity: Capacity, engine: Engine, ledger: Ledger, tally: Tally
    ) -> None:
        self._model = model
        self._denoiser = denoiser
        self._capacity = capacity
        self._engine = engine
        self._ledger = ledger
        self._tally = tally

    def full(self) -> WorkerStatus:
        return WorkerStatus(
            host=socket.gethostname(),
            pid=os.getpid(),
            version=__version__,
            uptime_seconds=round(self._tally.uptime_seconds, 1),
            model=self._model,
            device=self._denoiser.device,
            dtype=self._denoiser.dtype,
            table=[CallTime(rows=rows, seconds=seconds) for rows, seconds in self._capacity.table.items()],
            rows_at_a_time=self._capacity.rows,
            images_at_a_time=self._capacity.images,
            device_memory_bytes=self._denoiser.memory_bytes(),
            jobs=[self._job(held) for held in self._ledger],
            images_per_second=round(self._tally.images_per_second, 3),
            images_total=self._tally.images,
            jobs_done=self._tally.done,
            jobs_failed=self._tally.failed,
            paused=self._engine.paused,
            healthy=self._engine.healthy,
        )

    def line(self, in_queues: int, trouble: str | None) -> str:
        """As systemctl shows it; ``in_queues`` jobs wait with the broker."""
        drawing = sum(held.begun for held in self._ledger)
        waiting = len(self._ledger) - drawing + in_queues
        rate = self._tally.images_per_second
        why = self._engine.paused or trouble
        return f"{drawing} drawing, {waiting} waiting, {rate:.1f} img/s" + (f"; {why}" if why else "")

    def _job(self, held: Held) -> JobStatus:
        far = self._engine.how_far(held.key)
        state: JobState = "waiting"
        if held.begun:
            state = "drawing" if far else "publishing"
        return JobStatus(
            id=held.job_id,
            priority=held.priority,
            state=state,
            step=far.step if far else 0,
            steps=(far.steps or None) if far else None,
            images_drawn=held.drawn,
            images=held.images,
        )
