"""A device that counts: what the engine asks of it, and what it is told to fail at."""

import threading
from collections.abc import Sequence

import numpy as np

from stablediffusiond.engine.job import Kind, Pixels, Sample
from stablediffusiond.errors import JobError, OutOfMemory
from stablediffusiond.messages.complete_request import CompleteRequest
from stablediffusiond.messages.replies import ImageFacts
from stablediffusiond.messages.request import Request
from stablediffusiond.messages.status import LoraFacts, Offer


class FakeDenoiser:
    device = "fake"
    dtype = "float32"
    shortcoming: str | None = None
    nbytes = 0

    def __init__(self, rows_that_fit: int = 1000) -> None:
        self.rows_that_fit = rows_that_fit
        self.rows: list[int] = []
        self.order: list[str] = []
        self.batches: list[list[int]] = []
        self.dropped: list[int] = []
        self.begin_errors: dict[int, BaseException] = {}
        self.step_errors: dict[int, JobError] = {}
        self.finish_errors: dict[int, JobError] = {}
        self.forward_errors: dict[int, JobError] = {}
        #: By the number of pictures; two at once are no gain.
        self.decode_seconds = {1: 0.004, 2: 0.008}
        #: A call of the network waits for this.
        self.go = threading.Event()
        self.go.set()
        self.stepping = threading.Event()

    def room_bytes(self) -> int:
        return 1_000_000_000

    def complete(self, request: Request) -> tuple[CompleteRequest, list[str]]:
        return CompleteRequest.of(request), []

    def offer(self) -> Offer:
        return Offer(
            tasks=["txt2img"], width=64, height=64, steps=50, guidance_scale=7.5, sampler="Euler", samplers=["Euler"],
            loras=[LoraFacts(name="ink", family="x", triggers=["y", "z"])], controlnets=["edges"],
            ip_adapters=["plus"], vaes=["soft"],
        )  # fmt: skip

    def names_files(self, request: Request) -> bool:
        return False

    def read_files(self, request: Request) -> None:
        return None

    def kind_of(self, request: Request) -> Kind:
        return Kind(request.width or 64, request.height or 64)

    def rows_of(self, request: CompleteRequest) -> int:
        return 2

    def time_rows(self, rows: int) -> float:
        return 0.01 + 0.002 * rows

    def time_decodes(self, images: int) -> float:
        return self.decode_seconds[images]

    def most_pixels(self) -> int | None:
        return 512 * 512

    def memory_bytes(self) -> int | None:
        return None

    def begin(self, samples: Sequence[Sample]) -> dict[int, JobError]:
        failures: dict[int, JobError] = {}
        for place, sample in enumerate(samples):
            error = self.begin_errors.get(sample.task.key)
            if isinstance(error, JobError):
                failures[place] = error
            elif error is not None:
                raise error
            sample.state, sample.steps = object(), sample.task.request.steps
        return failures

    def step(self, samples: Sequence[Sample], rows_at_once: int) -> dict[int, JobError]:
        self.stepping.set()
        assert self.go.wait(20)
        keys = [sample.task.key for sample in samples]
        rows = min(rows_at_once, sum(sample.rows for sample in samples))
        if rows > self.rows_that_fit:
            raise OutOfMemory(f"{rows} rows")
        for key in keys:
            if error := self.forward_errors.get(key):
                raise error
        self.batches.append(keys)
        self.order.append("step")
        self.rows.append(rows)
        for sample in samples:
            sample.step += sample.task.key not in self.step_errors
            sample.finished = sample.step == sample.steps
        return {place: self.step_errors[key] for place, key in enumerate(keys) if key in self.step_errors}

    def finish(self, samples: Sequence[Sample]) -> list[Pixels | JobError]:
        self.order.append("finish " + ", ".join(str(sample.task.key) for sample in samples))
        return [
            self.finish_errors.get(sample.task.key, np.full((8, 8, 3), sample.index, np.uint8)) for sample in samples
        ]

    def drop(self, sample: Sample) -> None:
        self.dropped.append(sample.task.key)

    def facts(self, sample: Sample) -> ImageFacts:
        request = sample.task.request
        return ImageFacts(
            id=request.id, index=sample.index, count=request.count, type=request.type, prompt=request.prompt,
            negative_prompt="", seed=request.image_seed(sample.index), width=8, height=8, steps=request.steps,
            guidance_scale=1, sampler="fake", eta=0, model="fake",
        )  # fmt: skip

    def preview(self, sample: Sample) -> Pixels:
        self.order.append(f"preview {sample.task.key}")
        return np.full((2, 2, 3), sample.step, np.uint8)

    can_leave = False

    def leave(self) -> None:
        """It has nothing that could."""

    def come_back(self) -> None:
        """It was never away."""

    def free_memory(self) -> None:
        self.batches.append([])
