"""The parts that an image is drawn in, one after the other: mostly one, a pipeline's run from noise to the picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from stablediffusiond.engine.image_scheduler import ImageScheduler
from stablediffusiond.engine.job import Kind
from stablediffusiond.engine.networks import Pipeline


class Part(Protocol):
    """What is the same while one network makes the steps."""

    @property
    def kind(self) -> Kind: ...
    @property
    def network(self) -> torch.nn.Module:
        """Its calls are the steps."""
        ...

    @property
    def steps(self) -> int: ...
    @property
    def steps_done(self) -> int: ...


@dataclass(eq=False)
class Denoising:
    """A run of a pipeline of diffusers."""

    pipeline: Pipeline
    scheduler: ImageScheduler
    kind: Kind
    network: torch.nn.Module
    expected_steps: int | None = None  #: of a part that does not begin at once: reckoned beforehand

    @property
    def steps(self) -> int:
        """Its pipeline counts them once it runs; some do not, and then its scheduler has them."""
        counted: int | None = getattr(self.pipeline, "_num_timesteps", None)
        if counted is not None:
            return counted
        if self.expected_steps is not None and not self.steps_done:
            return self.expected_steps
        return len(self.scheduler.scheduler.timesteps)

    @property
    def steps_done(self) -> int:
        return self.scheduler.steps_done


@dataclass(eq=False)
class Parts:
    """Those of one image; whoever draws it says when the next one begins."""

    parts: Sequence[Part]
    place: int = 0

    @property
    def current(self) -> Part:
        return self.parts[self.place]

    @property
    def is_last(self) -> bool:
        return self.place == len(self.parts) - 1

    @property
    def shown(self) -> Denoising | None:
        """That whose latents are the newest."""
        denoising = [part for part in self.parts if isinstance(part, Denoising)]
        return next((part for part in reversed(denoising) if part.steps_done), next(iter(denoising), None))

    @property
    def steps(self) -> int:
        return sum(part.steps for part in self.parts)

    @property
    def steps_done(self) -> int:
        return sum(part.steps_done for part in self.parts)

    def go_on(self) -> None:
        """The next one begins."""
        self.place += 1
