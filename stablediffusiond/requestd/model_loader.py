"""Loading models: the first on the engine's thread, before there is a job; others beside the stepping."""

import asyncio
import gc
import importlib
import logging
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final, TypeVar, TypeVarTuple

from stablediffusiond.engine.capacity import Capacity, warm_up, warm_up_again
from stablediffusiond.engine.catalogue import Catalogue
from stablediffusiond.engine.device import MeasurableDenoiser
from stablediffusiond.engine.loaded_model import LoadedModel
from stablediffusiond.errors import DeviceAway, OutOfMemory
from stablediffusiond.requestd.host_models import HostModels, most_bytes
from stablediffusiond.requestd.loading import as_load
from stablediffusiond.service import notify
from stablediffusiond.settings import ModelSettings, Settings

log = logging.getLogger(__name__)

Arguments = TypeVarTuple("Arguments")
Made = TypeVar("Made")

#: Makes the denoiser of the model that the settings name, which requests may call otherwise.
Open = Callable[[Settings, str], MeasurableDenoiser]
_BUILT_IN: Final = Path(__file__).parents[1] / "doodle"
#: What imports torch.
_ENGINE: Final = "stablediffusiond.engine.models"
_WEIGHTS: Final = (".safetensors", ".gguf", ".bin", ".ckpt", ".pt")


class ModelLoader:
    """``open_model`` imports torch, loads and warms up: it takes its time."""

    def __init__(self, settings: Settings, catalogue: Catalogue, open_model: Open) -> None:
        self._settings = settings
        self.catalogue = catalogue
        self._open = open_model
        self._host = HostModels(0)
        #: What was found of each model when it was loaded last, with the settings and the bytes that it had then.
        self._found: dict[str, tuple[ModelSettings, int, Capacity]] = {}

    async def load_default(self, device: Executor) -> LoadedModel:
        """Load and measure the model of ``[model]`` on the thread that will use it; the loop goes on with heartbeats.

        Raises:
            ModelUnavailable, ModelAway, DeviceAway: it cannot be loaded, or not now.
        """
        name = self.catalogue.default
        log.info("loading the model %s", name)
        notify(STATUS=f"loading {name}")
        began = time.monotonic()
        loaded = await asyncio.get_running_loop().run_in_executor(device, as_load, self._load, name)
        self._host = HostModels(most_bytes(self._settings.residency, loaded.denoiser.device))
        where = f"{loaded.denoiser.device}, {loaded.denoiser.dtype}"
        log.info("%s is ready on %s after %.1f s", name, where, time.monotonic() - began)
        return loaded

    async def load_beside(self, name: str) -> LoadedModel:
        """Load and measure another model, or fetch it from host memory, in a thread that ends with it.

        torch gives each thread that computes threads of its own, which would stay, and be in the way of those who step.

        Raises:
            ModelUnavailable, ModelAway, DeviceAway: it cannot be loaded, or not now.
        """
        log.info("loading the model %s", name)
        return await self._in_a_thread(self._fetch, name)

    async def unload(self, name: str, model: LoadedModel) -> None:
        """Keep a model that makes room in host memory, if that has room."""
        await self._in_a_thread(self._host.keep, name, model)

    @property
    def host_bytes(self) -> dict[str, int]:
        """Of the models in host memory."""
        return self._host.nbytes

    async def _in_a_thread(self, work: Callable[[*Arguments], Made], *arguments: *Arguments) -> Made:
        thread = ThreadPoolExecutor(1, thread_name_prefix="loading")
        try:
            return await asyncio.get_running_loop().run_in_executor(thread, partial(as_load, work, *arguments))
        finally:
            thread.shutdown(wait=False)

    def _fetch(self, name: str) -> LoadedModel:
        try:
            return self._host.bring_back(name) or self._load(name)
        except OutOfMemory as error:  # which somebody else may have, and give back
            raise DeviceAway(f"model {name!r} has no room on the device: {error}") from error

    def bytes_of(self, name: str) -> int:
        """Of the weights of a model, as its files are large; 0 where they are not here."""
        settings = self.catalogue.settings.get(name)
        if settings is None:
            return 0
        path = _BUILT_IN if settings.name == "doodle" else Path(settings.name).expanduser()
        if not path.exists():
            return 0
        files = [path] if path.is_file() else [each for each in path.rglob("*") if each.suffix in _WEIGHTS]
        return sum(file.stat().st_size for file in files)

    def _load(self, name: str) -> LoadedModel:
        gc.collect()  # what a model that made room has held is free then, and not some time later
        known = self.catalogue.settings
        model: ModelSettings = known.get(name, self._settings.model)
        denoiser = self._open(self._settings.model_copy(update={"model": model}), name)
        return LoadedModel(denoiser, self._capacity(name, model, denoiser), denoiser.nbytes)

    def _capacity(self, name: str, model: ModelSettings, denoiser: MeasurableDenoiser) -> Capacity:
        """Measured once: that takes longer than to load the same model again, and those that step have to share."""
        engine = self._settings.engine
        *same, capacity = self._found.get(name, (None, 0, None))
        if capacity is not None and same == [model, denoiser.nbytes] and engine.compile == "off":
            warm_up_again(denoiser)
            return capacity
        capacity = warm_up(denoiser, None if engine.max_images == "auto" else engine.max_images)
        self._found[name] = model, denoiser.nbytes, capacity
        return capacity


def open_model(settings: Settings, name: str) -> MeasurableDenoiser:
    for library in ("TRANSFORMERS_VERBOSITY", "DIFFUSERS_VERBOSITY"):
        os.environ.setdefault(library, "error")  # they warn at import of what a server does not use
    _import_engine()
    from stablediffusiond.engine.models import load  # noqa: PLC0415 (torch takes seconds, and --help needs none)

    return load(settings.model, settings.engine.compile, settings.folders, called=name)


def _import_engine() -> None:
    """Import it, the first time without a look for garbage: all of it stays, and looking takes a tenth of the import.

    Nor is it looked through ever after. Models that are loaded later are.
    """
    if _ENGINE in sys.modules:
        return
    gc.disable()
    try:
        importlib.import_module(_ENGINE)
    finally:
        gc.freeze()
        gc.enable()
