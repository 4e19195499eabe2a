"""Where a request daemon with several models ends, and how it loads them without a model."""

import os
import threading
from typing import Any, Final
from unittest.mock import patch

from stablediffusiond.engine.loaded_models import LoadedModels
from stablediffusiond.requestd.job_forwarding import JobForwarding
from stablediffusiond.requestd.model_loader import ModelLoader
from stablediffusiond.settings import Settings
from tests.faults.fake_denoiser import FakeDenoiser, die

#: Of each model: about the size that the loader expects, which is that of the files of the built-in one.
FAKE_BYTES: Final = 17_700_000


def loading_another() -> None:
    """A model beside the one that it began with; what made room for it is gone already."""
    patch.object(ModelLoader, "load_beside", lambda *_: die()).start()


def changing_over() -> None:
    """What is to make room for another model gets no further job, and is still here."""
    patch.object(LoadedModels, "remove", lambda *_: die()).start()


def passing_on() -> None:
    """Another queue has the job, and the one that it came by still has it."""
    forward = JobForwarding.forward

    async def dying(self: JobForwarding, job: Any, model: str) -> bool:
        if passed := await forward(self, job, model):
            die()
        return passed

    patch.object(JobForwarding, "forward", dying).start()


def fake_load(_: Settings, name: str) -> FakeDenoiser:
    """One that takes as long as the environment says; alone it has no size."""
    threading.Event().wait(float(os.environ.get("FAKE_LOAD_SECONDS", "0")))
    several = any(key.startswith("STABLEDIFFUSIOND_MODELS__") for key in os.environ)
    return FakeDenoiser(name, FAKE_BYTES) if several or name != "doodle" else FakeDenoiser()
