"""A device that counts: what the engine asks of it, and what it is told to fail at."""

import threading
from collections.abc import Sequence

import numpy as np

from stablediffusiond.engine.job import Pixels, Sample, Task
from stablediffusiond.errors import JobError
from stablediffusiond.messages.replies import ImageFacts


class FakeDenoiser:
    device_name = "fake"

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.begin_errors: dict[int, BaseException] = {}
        self.step_errors: dict[int, JobError] = {}
        self.finish_errors: dict[int, JobError] = {}
        self.forward_errors: dict[int, JobError] = {}
        #: A UNet call waits for this.
        self.go = threading.Event()
        self.go.set()
        self.stepping = threading.Event()

    def begin(self, task: Task, index: int) -> Sample:
        if error := self.begin_errors.get(task.key):
            raise error
        return Sample(task, index, None, (task.request.width, task.request.height), 2, task.request.steps)

    def step(self, samples: Sequence[Sample]) -> dict[int, JobError]:
        self.stepping.set()
        assert self.go.wait(20)
        keys = [sample.task.key for sample in samples]
        for key in keys:
            if error := self.forward_errors.get(key):
                raise error
        self.batches.append(keys)
        return {place: self.step_errors[key] for place, key in enumerate(keys) if key in self.step_errors}

    def finish(self, sample: Sample) -> Pixels:
        if error := self.finish_errors.get(sample.task.key):
            raise error
        return np.full((8, 8, 3), sample.index, np.uint8)

    def facts(self, sample: Sample) -> ImageFacts:
        request = sample.task.request
        return ImageFacts(
            id=request.id, index=sample.index, count=request.count, type=request.type, prompt=request.prompt,
            negative_prompt="", seed=request.image_seed(sample.index), width=8, height=8, steps=request.steps,
            guidance_scale=1, sampler="fake", eta=0, model="fake",
        )  # fmt: skip

    def free_memory(self) -> None:
        self.batches.append([])
