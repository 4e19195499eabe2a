"""The models that this daemon draws with: jobs wait here for theirs, which is loaded beside the stepping."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Protocol

from stablediffusiond.engine.changeover import Change, Resident, Wanted, next_change, next_look, surplus
from stablediffusiond.engine.job import Kind
from stablediffusiond.engine.loaded_model import LoadedModel
from stablediffusiond.engine.loaded_models import LoadedModels
from stablediffusiond.errors import ModelError, StableDiffusiondError
from stablediffusiond.messages.request import Priority
from stablediffusiond.messages.status import ModelState, ModelStatus
from stablediffusiond.requestd.failed_loads import RETRY_SECONDS, FailedLoads
from stablediffusiond.requestd.model_use import ModelUse
from stablediffusiond.requestd.waiting_jobs import WaitingJob, WaitingJobs

log = logging.getLogger(__name__)


class Loader(Protocol):
    """Brings models to the device, and takes them from there; each in its time."""

    async def load_beside(self, name: str) -> LoadedModel:
        """Raises StableDiffusiondError: it cannot be loaded."""
        ...

    async def unload(self, name: str, model: LoadedModel) -> None: ...

    @property
    def host_bytes(self) -> Mapping[str, int]:
        """Of the models that are not on the device, and not far away."""
        ...

    def bytes_of(self, name: str) -> int:
        """About how large a model is that was not loaded yet."""
        ...


class ModelSet:
    """Those in ``loaded``; ``loader`` brings others, beside the stepping."""

    def __init__(
        self,
        loaded: LoadedModels,
        loader: Loader,
        *,
        most_bytes: int,
        max_wait_seconds: float,
        on_change: Callable[[], None],
    ) -> None:
        self._loaded = loaded
        self._loader = loader
        self._most_bytes = most_bytes
        self._max_wait_seconds = max_wait_seconds
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
        away = self._loader.host_bytes
        names = dict.fromkeys([*self._loaded.names, *self.waiting.models, *away])
        return [
            ModelStatus(
                name=name,
                state=self._state(name, loading),
                nbytes=self._loaded.bytes_of(name) or None,
                host_bytes=away.get(name),
                jobs=self._use.jobs.get(name, 0),
                waiting=len(self.waiting.of(name)),
                longest_wait_seconds=self.waiting.longest_seconds(name),
            )
            for name in names
        ]

    def _state(self, name: str, loading: str | None) -> ModelState:
        if name in self._loaded:
            return "resident"
        if name == loading:
            return "loading"
        return "waiting" if self.waiting.of(name) else "host"

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
            await self._loader.unload(name, self._loaded.remove(name))
        self.loads[change.load] = self.loads.get(change.load, 0) + 1
        began = time.monotonic()
        try:
            model = await self._loader.load_beside(change.load)
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
                await self._loader.unload(name, self._loaded.remove(name))
        finally:
            self._loading = self._change = None
        self._look()

    def _fail(self, model: str, error: Exception) -> None:
        for waiting in self.waiting.take(lambda job: job.model == model):
            waiting.ready.set_exception(error)

    def _residents(self) -> list[Resident]:
        return self._loaded.residents(self._use.jobs, self._use.last_used)

    def _wanted(self) -> list[Wanted]:
        return self.waiting.wanted(self._loaded.names, self._bytes_of)

    def _bytes_of(self, model: str) -> int:
        return self._sizes.get(model) or self._loader.bytes_of(model)
