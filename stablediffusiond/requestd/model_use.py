"""Which models are in use: by how many jobs, and until when they were."""

import time
from collections.abc import Iterable


class ModelUse:
    def __init__(self) -> None:
        self.jobs: dict[str, int] = {}
        self.last_used: dict[str, float] = {}  #: by time.monotonic

    def begin(self, model: str) -> None:
        self.jobs[model] = self.jobs.get(model, 0) + 1

    def end(self, model: str) -> None:
        self.jobs[model] -= 1
        self.touch(model)

    def touch(self, model: str) -> None:
        self.last_used[model] = time.monotonic()

    def of_any(self, models: Iterable[str]) -> bool:
        return any(self.jobs.get(model) for model in models)
