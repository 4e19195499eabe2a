"""The models that this daemon draws with: jobs wait here for theirs, which is loaded beside the stepping."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from stablediffusiond.engine.changeover import Change, Resident, Wanted, next_change, next_look, surplus
from stablediffusiond.engine.job import Kind
from stablediffusiond.engine.loaded_model import LoadedModel
from stablediffusiond.engine.loaded_models import LoadedModels
from stablediffusiond.errors import ModelError, StableDiffusiondError
from stablediffusiond.messages.request import Priority
from stablediffusiond.messages.status import ModelStatus
from stablediffusiond.requestd.failed_loads import RETRY_SECONDS, FailedLoads
from stablediffusiond.requestd.model_use import ModelUse
from stablediffusiond.requestd.waiting_jobs import WaitingJob, WaitingJobs

log = logging.getLogger(__name__)


Load = Callable[[str], Awaitable[LoadedModel]]


class ModelSet:
    """Those in ``loaded``; ``load`` brings another one, in a thread of its own."""

    def __init__(
        self,
        loaded: LoadedModels,
        load: Load,
        *,
        most_bytes: int,
        max_wait_seconds: float,
        bytes_of: Callable[[str], int],
        on_change: Callable[[], None],
    ) -> None:
        """``bytes_of`` tells of a model that is not loaded about how large it is."""
        self._loaded = loaded
        self._load = load
        self._most_bytes = most_bytes
        self._max_wait_seconds = max_wait_seconds
        self._bytes_of = bytes_of
        self._on_change = on_change
        self._use = ModelUse()
        self.waiting = WaitingJobs()  #: those whose models are not there
        self._sizes: dict[str, int] = {}  #: bytes of models that were loaded once
        self._failed = FailedLoads()
        self._change: Change | None = None
        self._loading: asyncio.Task[None] | None = None
        self._look_later: asyncio.TimerHandle | None = None
        self.loads: dict[str, float] = {}  #: that were begun, by model

    @asynccontextmanager
    async def using(self, model: str, priority: Priority, queued_seconds: float = 0.0) -> AsyncIterator[None]:
        """Wait for ``model``; it stays as long as this lasts. The job has waited for so long before it came here.

        Raises:
            ModelError: it cannot be loaded.
        """
        if self.is_free(model):
            self._use.begin(model)
        else:
            since = time.monotonic() - min(queued_seconds, self._max_wait_seconds)
            await self._wait_for(WaitingJob(model, priority == "high", since))
        try:
            yield
        finally:
            self._release(model)

    def status(self) -> list[ModelStatus]:
        loading = self._change.load if self._loading is not None and self._change is not None else None
        names = dict.fromkeys([*self._loaded.names, *self.waiting.models])
        return [
            ModelStatus(
                name=name,
                state="resident" if name in self._loaded else "loading" if name == loading else "waiting",
                nbytes=self._loaded.bytes_of(name) or None,
                jobs=self._use.jobs.get(name, 0),
                waiting=len(self.waiting.of(name)),
                longest_wait_seconds=self.waiting.longest_seconds(name),
            )
            for name in names
        ]

    def stop(self) -> None:
        """Begin no further load. What loads is a thread, which cannot be told to stop."""
        self._most_bytes = 0
        self.waiting.clear()
        if self._look_later is not None:
            self._look_later.cancel()

    @property
    def names(self) -> list[str]:
        """The models that are on the device."""
        return self._loaded.names

    def own_kind(self, model: str) -> Kind | None:
        """The own size of ``model``, if it is on the device."""
        return self._loaded.own_of(model)

    def is_free(self, model: str) -> bool:
        """Whether a job may be drawn with ``model`` at once: it is here, and not about to make room."""
        return model in self._loaded and not (self._change is not None and model in self._change.unload)

    async def _wait_for(self, waiting: WaitingJob) -> None:
        self._failed.check(waiting.model)
        self.waiting.add(waiting)
        try:
            self._look()
            await waiting.ready
        except BaseException:
            if waiting.granted:
                self._release(waiting.model)
            raise
        finally:
            self.waiting.discard(waiting)

    def _release(self, model: str) -> None:
        self._use.end(model)
        self._look()

    def _look(self) -> None:
        """Let those go on whose models are there; decide what is loaded next."""
        for waiting in self.waiting.take(lambda job: self.is_free(job.model)):
            waiting.granted = True  # from now on nobody takes the model away again
            self._use.begin(waiting.model)
            waiting.ready.set_result(None)
        if self._loading is None:
            self._decide()
        self._on_change()

    def _decide(self) -> None:
        now = time.monotonic()
        wanted = self._wanted()
        if self._change is not None and self._change.load not in {each.name for each in wanted}:
            self._change = None  # nobody waits for it any more
            self._look()
            return
        if self._change is None:
            residents = self._residents()
            self._change = next_change(now, residents, wanted, self._most_bytes, self._max_wait_seconds)
        if self._change is not None and not self._use.of_any(self._change.unload):
            self._loading = asyncio.create_task(self._carry_out(self._change), name=f"loading {self._change.load}")
        elif self._change is None and (seconds := self._next_look(now, wanted)) is not None:
            if self._look_later is not None:
                self._look_later.cancel()
            self._look_later = asyncio.get_running_loop().call_later(seconds, self._look)

    def _next_look(self, now: float, wanted: list[Wanted]) -> float | None:
        return next_look(now, self._residents(), wanted, self._max_wait_seconds)

    async def _carry_out(self, change: Change) -> None:
        reason = f"; {', '.join(change.unload)} made room" if change.unload else ""
        for name in change.unload:
            self._loaded.remove(name)
        self.loads[change.load] = self.loads.get(change.load, 0) + 1
        began = time.monotonic()
        try:
            model = await self._load(change.load)
        except StableDiffusiondError as error:
            why = f"the model {change.load!r} cannot be loaded: {error}"
            log.warning("%s; it is tried again for jobs that come in %d s", why, RETRY_SECONDS)
            self._failed.note(change.load, why)
            self._fail(change.load, ModelError(why))
        except Exception as error:  # noqa: BLE001 (a bug: it ends the daemon by way of the jobs that wait)
            self._fail(change.load, error)
        else:
            self._loaded.add(change.load, model)
            self._sizes[change.load] = model.nbytes
            self._use.touch(change.load)
            log.info("%s is loaded in %.1f s%s", change.load, time.monotonic() - began, reason)
            for name in surplus(self._residents(), self._most_bytes):
                log.info("%s makes room: %s is larger than its files", name, change.load)
                self._loaded.remove(name)
        finally:
            self._loading = self._change = None
        self._look()

    def _fail(self, model: str, error: Exception) -> None:
        for waiting in self.waiting.take(lambda job: job.model == model):
            waiting.ready.set_exception(error)

    def _residents(self) -> list[Resident]:
        return self._loaded.residents(self._use.jobs, self._use.last_used)

    def _wanted(self) -> list[Wanted]:
        return self.waiting.wanted(self._loaded.names, lambda name: self._sizes.get(name) or self._bytes_of(name))
