"""How this daemon is: in full for who asks over the broker, in a line for systemd."""

import os
import socket
from collections.abc import Callable

from stablediffusiond import __version__
from stablediffusiond.engine.engine import Engine
from stablediffusiond.engine.loaded_models import LoadedModels
from stablediffusiond.messages.status import CallTime, JobState, JobStatus, WorkerStatus
from stablediffusiond.requestd.counters import Counters
from stablediffusiond.requestd.in_flight import InFlightJob, InFlightJobs
from stablediffusiond.requestd.model_set import ModelSet


class StatusReport:
    """Made once the model is there; looks at the other parts and changes none of them."""

    def __init__(
        self,
        *,
        model: str,
        served: Callable[[], list[str]],
        loaded: LoadedModels,
        models: ModelSet,
        engine: Engine,
        in_flight: InFlightJobs,
        counters: Counters,
    ) -> None:
        """``model`` is the default one, ``served`` gives all that requests may name."""
        self._model = model
        self._served = served
        self._loaded = loaded
        self._models = models
        self._engine = engine
        self._in_flight = in_flight
        self._counters = counters

    def full(self) -> WorkerStatus:
        capacity = self._loaded.capacity
        return WorkerStatus(
            host=socket.gethostname(),
            pid=os.getpid(),
            version=__version__,
            uptime_seconds=round(self._counters.uptime_seconds, 1),
            model=self._model,
            device=self._loaded.device,
            dtype=self._loaded.dtype,
            shortcoming=self._loaded.shortcoming,
            table=[CallTime(rows=rows, seconds=seconds) for rows, seconds in capacity.table.items()],
            rows_at_a_time=capacity.rows,
            images_at_a_time=capacity.images,
            device_memory_bytes=self._loaded.memory_bytes(),
            models=self._models.status(),
            served=self._served(),
            jobs=[self._job(job) for job in self._in_flight],
            images_per_second=round(self._counters.images_per_second, 3),
            images_total=self._counters.images,
            jobs_done=self._counters.done,
            jobs_failed=self._counters.failed,
            paused=self._engine.paused,
            healthy=self._engine.healthy,
        )

    def line(self, in_queues: int, trouble: str | None) -> str:
        """As systemctl shows it; ``in_queues`` jobs wait with the broker."""
        drawing = sum(job.begun for job in self._in_flight)
        waiting = len(self._in_flight) - drawing + in_queues
        rate = self._counters.images_per_second
        on_cpu = f"on {self._loaded.device}: {lacking}" if (lacking := self._loaded.shortcoming) else None
        why = self._engine.paused or trouble or on_cpu
        return f"{drawing} drawing, {waiting} waiting, {rate:.1f} img/s" + (f"; {why}" if why else "")

    def _job(self, job: InFlightJob) -> JobStatus:
        far = self._engine.how_far(job.key)
        state: JobState = "waiting"
        if job.begun:
            state = "drawing" if far else "publishing"
        return JobStatus(
            id=job.job_id,
            priority=job.priority,
            state=state,
            step=far.step if far else 0,
            steps=(far.steps or None) if far else None,
            images_drawn=job.drawn,
            images=job.images,
        )
