"""From a sample to a pipeline that is suspended at its first call."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from stablediffusiond.engine import hires, upscaling
from stablediffusiond.engine.coalescing import PipelineRun
from stablediffusiond.engine.image_run import ImageRun
from stablediffusiond.engine.job import Sample
from stablediffusiond.engine.parts import Part, Parts
from stablediffusiond.engine.passes import make_pass
from stablediffusiond.engine.pipelines import ModelPipelines
from stablediffusiond.engine.refiner import Refiner
from stablediffusiond.engine.request_files import files_of
from stablediffusiond.engine.variations import vary

#: Draws an image; it calls what it is given between two parts.
Draw = Callable[[Callable[[], None]], Any]


def begin(sample: Sample, pipelines: ModelPipelines, refiner: Refiner | None, longest_tile_seconds: float) -> ImageRun:
    """The run of ``sample``, of the model of ``pipelines``, and of ``refiner`` for its last steps if it has any for it.

    A tile of an upscaler takes no longer than ``longest_tile_seconds``, if it can be.

    Raises:
        InvalidRequest: its sampler is not for this model.
    """
    task = sample.task
    files = files_of(task)
    unseen: Sequence[str] = ()
    if task.request.type == "upscale":
        draw, made = upscaling.of_task(task, files.upscaler, longest_tile_seconds)
    else:
        draw, made, unseen = _denoise(sample, pipelines, refiner, longest_tile_seconds)
    parts = Parts(made)
    run = PipelineRun(lambda: draw(parts.go_on), files.adapters, files.ip_adapters, wraps_around=task.request.tiling)
    image = ImageRun(run, parts, unseen)
    run.start()
    return image


def _denoise(
    sample: Sample, pipelines: ModelPipelines, refiner: Refiner | None, longest_tile_seconds: float
) -> tuple[Draw, Sequence[Part], Sequence[str]]:
    task, request = sample.task, sample.task.request
    generator = torch.Generator("cpu").manual_seed(request.image_seed(sample.index))
    first = make_pass(pipelines, task, sample.kind, generator)
    if request.subseed_strength and hasattr(first.pipeline, "prepare_latents"):
        vary(first.pipeline, generator, request.image_subseed(sample.index), request.subseed_strength)
    if request.hires is not None:
        draw, parts = hires.two_passes(first, sample, request.hires, pipelines, longest_tile_seconds)
        return draw, parts, first.unseen
    if refiner is not None and refiner.serves(task, pipelines):
        refining = refiner.refining(first, task, sample.kind, generator)
        return refining.draw, [first.part, refining.part], first.unseen
    return lambda _: first.images(), [first.part], first.unseen
