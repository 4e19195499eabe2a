"""A second model that makes the last steps of each picture, as Stable Diffusion XL has one.

Source: Podell et al., SDXL, https://arxiv.org/abs/2307.01952; in diffusers ``denoising_end`` of the first pipeline
and ``denoising_start`` of the second.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from stablediffusiond.engine.job import Kind, Task
from stablediffusiond.engine.parts import Denoising
from stablediffusiond.engine.passes import Pass, make_pass
from stablediffusiond.engine.pipelines import ModelPipelines
from stablediffusiond.engine.request_files import RequestFiles, files_of


@dataclass(frozen=True)
class Refining:
    """The second part of one picture."""

    draw: Callable[[Callable[[], None]], Any]  #: both parts; it calls what it is given between them
    part: Denoising


@dataclass(frozen=True)
class Refiner:
    """``pipelines`` are the second model's; it begins when ``switch``, from 0 to 1, of the noise is gone."""

    pipelines: ModelPipelines
    switch: float

    def serves(self, task: Task, first: ModelPipelines) -> bool:
        """Whether a picture has steps for both, and its pipeline, one of ``first``, can end early."""
        can_end_early = first.arguments.takes(task.request.type, "denoising_end")
        return can_end_early and task.request.steps * (1 - self.switch) >= 1

    def refining(self, first: Pass, task: Task, kind: Kind, generator: torch.Generator) -> Refining:
        """``first`` is the pass of the first model over an image of ``task``."""
        request = task.request.model_copy(update={"type": "img2img"})
        files = RequestFiles(vae=files_of(task).vae)
        second_task = replace(task, request=request, init_image=None, mask=None, files=files)
        steps = max(round(request.steps * (1 - self.switch)), 1)
        second = make_pass(self.pipelines, second_task, kind, generator, expected_steps=steps)

        def draw(go_on: Callable[[], None]) -> Any:
            latents = first.images(output_type="latent", denoising_end=self.switch)
            go_on()
            return second.images(image=latents, denoising_start=self.switch)

        return Refining(draw, second.part)
