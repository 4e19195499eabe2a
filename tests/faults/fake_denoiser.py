"""A denoiser without a model, whose pictures tell whether each step was made once and for the right request."""

import hashlib
import os
import signal
import time
from collections.abc import Sequence

import numpy as np

from stablediffusiond.engine.job import Kind, Pixels, Sample
from stablediffusiond.errors import JobError, ModelError, OutOfMemory
from stablediffusiond.messages.complete_request import CompleteRequest
from stablediffusiond.messages.replies import ImageFacts
from stablediffusiond.messages.request import Request
from stablediffusiond.messages.status import Offer
from tests.faults import failing_prompts

_STEP_SECONDS = 0.01


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class FakeDenoiser:
    """Implements the engine's ``Denoiser``; its latents are a hash of the request and of the steps that were made."""

    device = "none"
    dtype = "float32"
    shortcoming: str | None = None

    def __init__(self, model: str = "", nbytes: int = 0) -> None:
        """``model`` is told by the pictures, too."""
        self._model = model
        self.nbytes = nbytes

    def room_bytes(self) -> int:
        return 1_000_000_000

    def memory_bytes(self) -> int | None:
        return None

    def complete(self, request: Request) -> tuple[CompleteRequest, list[str]]:
        return CompleteRequest.of(request), []

    def offer(self) -> Offer:
        return Offer(tasks=["txt2img"], width=64, height=64, steps=50, guidance_scale=7.5, sampler="Euler", samplers=[])

    def names_files(self, request: Request) -> bool:
        return False

    def read_files(self, request: Request) -> None:
        return None

    def kind_of(self, request: Request) -> Kind:
        return Kind(request.width or 64, request.height or 64, self._model)

    def rows_of(self, request: CompleteRequest) -> int:
        return 2 if request.guided else 1

    def time_rows(self, rows: int) -> float:
        return 0.01 + 0.001 * rows

    def time_decodes(self, images: int) -> float:
        return 0.001

    def most_pixels(self) -> int | None:
        return None

    def begin(self, samples: Sequence[Sample]) -> dict[int, JobError]:
        for sample in samples:
            request = sample.task.request
            if request.prompt == failing_prompts.POISON:
                die()
            said = (
                self._model, request.prompt, request.negative_prompt, request.image_seed(sample.index), request.steps
            )  # fmt: skip
            sample.state = hashlib.sha256(repr(said).encode())
            sample.steps = request.steps
        return {}

    def step(self, samples: Sequence[Sample], rows_at_once: int) -> dict[int, JobError]:
        time.sleep(_STEP_SECONDS)
        if any(sample.task.request.prompt == failing_prompts.OUT_OF_MEMORY for sample in samples):
            raise OutOfMemory("the device has no room for this")
        for sample in samples:
            _hash_of(sample).update(b"step %d" % sample.step)
            sample.step += 1
            sample.finished = sample.step == sample.steps
        return {
            place: ModelError("not a number")
            for place, sample in enumerate(samples)
            if sample.task.request.prompt == failing_prompts.NOT_A_NUMBER
        }

    def finish(self, samples: Sequence[Sample]) -> list[Pixels | JobError]:
        return [self._finish(sample) for sample in samples]

    def _finish(self, sample: Sample) -> Pixels | JobError:
        if sample.task.request.prompt == failing_prompts.UNDECODABLE:
            return ModelError("no decoder takes this")
        kind = sample.kind
        noise = np.random.default_rng(int.from_bytes(_hash_of(sample).digest(), "big"))
        return noise.integers(0, 256, (kind.height, kind.width, 3), np.uint8)

    def drop(self, sample: Sample) -> None:
        """It holds nothing."""

    def facts(self, sample: Sample) -> ImageFacts:
        request = sample.task.request
        return ImageFacts(
            id=request.id, index=sample.index, count=request.count, type=request.type, prompt=request.prompt,
            negative_prompt=request.negative_prompt, seed=request.image_seed(sample.index),
            width=sample.kind.width, height=sample.kind.height, steps=request.steps,
            guidance_scale=request.guidance_scale, sampler="none", eta=request.eta, model=self._model or "fake-denoiser",
        )  # fmt: skip

    def preview(self, sample: Sample) -> Pixels:
        return np.zeros((sample.kind.height // 8, sample.kind.width // 8, 3), np.uint8)

    can_leave = False

    def leave(self) -> None:
        """It has nothing that could."""

    def come_back(self) -> None:
        """It was never away."""

    def free_memory(self) -> None:
        """There is none to free."""


def _hash_of(sample: Sample) -> "hashlib._Hash":
    state = sample.state
    assert isinstance(state, type(hashlib.sha256()))
    return state
