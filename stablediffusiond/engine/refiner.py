"""A second model that makes the last steps of each picture, as Stable Diffusion XL has one.

Source: Podell et al., SDXL, https://arxiv.org/abs/2307.01952; in diffusers ``denoising_end`` of the first pipeline
and ``denoising_start`` of the second.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from stablediffusiond.engine.image_scheduler import ImageScheduler
from stablediffusiond.engine.job import Kind, Task
from stablediffusiond.engine.networks import Pipeline
from stablediffusiond.engine.pipelines import ModelPipelines
from stablediffusiond.engine.request_files import RequestFiles, files_of


@dataclass(frozen=True)
class Refining:
    """The second part of one picture."""

    draw: Callable[[], Any]  #: both parts
    pipeline: Pipeline
    scheduler: ImageScheduler


@dataclass(frozen=True)
class Refiner:
    """``pipelines`` are the second model's; it begins when ``switch``, from 0 to 1, of the noise is gone."""

    pipelines: ModelPipelines
    switch: float

    def serves(self, task: Task, first: ModelPipelines) -> bool:
        """Whether a picture has steps for both, and its pipeline, one of ``first``, can end early."""
        can_end_early = first.arguments.takes(task.request.type, "denoising_end")
        return can_end_early and task.request.steps * (1 - self.switch) >= 1

    def refining(
        self, first: Pipeline, arguments: Mapping[str, object], task: Task, kind: Kind, generator: torch.Generator
    ) -> Refining:
        """``first`` is the pipeline of the first part, with its ``arguments``."""
        second_task = replace(
            task, request=task.request.model_copy(update={"type": "img2img"}), init_image=None, mask=None
        )
        scheduler = self.pipelines.scheduler_for(second_task, generator)
        second, _ = self.pipelines.for_image(second_task.request, scheduler, RequestFiles(vae=files_of(task).vae))
        second_arguments = self.pipelines.arguments.of(second_task, kind, generator)

        def draw() -> Any:
            latents = first(**{**arguments, "output_type": "latent", "denoising_end": self.switch}).images
            return second(**{**second_arguments, "image": latents, "denoising_start": self.switch}).images

        return Refining(draw, second, scheduler)
