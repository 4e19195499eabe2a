"""From a sample to a pipeline that is suspended at its first call."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch

from stablediffusiond.engine.coalescing import PipelineRun
from stablediffusiond.engine.controlnets import arguments_of
from stablediffusiond.engine.image_run import ImageRun
from stablediffusiond.engine.ip_adapters import looking
from stablediffusiond.engine.job import Sample
from stablediffusiond.engine.networks import Pipeline
from stablediffusiond.engine.pipelines import ModelPipelines
from stablediffusiond.engine.refiner import Refiner
from stablediffusiond.engine.request_files import files_of
from stablediffusiond.engine.variations import vary
from stablediffusiond.errors import InvalidRequest


def begin(sample: Sample, pipelines: ModelPipelines, refiner: Refiner | None) -> ImageRun:
    """The run of ``sample``, of the model of ``pipelines``, and of ``refiner`` for its last steps if it has any for it.

    Raises:
        InvalidRequest: its sampler is not for this model.
    """
    request = sample.task.request
    generator = torch.Generator("cpu").manual_seed(request.image_seed(sample.index))
    scheduler = pipelines.scheduler_for(sample.task, generator)
    files = files_of(sample.task)
    pipeline, unseen = pipelines.for_image(request, scheduler, files)
    arguments = pipelines.arguments.of(sample.task, sample.kind, generator)
    if files.controlnets:
        arguments |= arguments_of(pipeline, request.control, sample.task.controls)
    if request.subseed_strength and hasattr(pipeline, "prepare_latents"):
        vary(pipeline, generator, request.image_subseed(sample.index), request.subseed_strength)
    parts = [(pipeline, scheduler)]
    if refiner is not None and refiner.serves(sample.task, pipelines):
        refining = refiner.refining(pipeline, arguments, sample.task, sample.kind, generator)
        parts.append((refining.pipeline, refining.scheduler))
        draw = refining.draw
    else:
        draw = functools.partial(_images, pipeline, arguments)
    if files.ip_adapters:
        draw = _looking_first(draw, pipeline, arguments, sample)
    run = PipelineRun(draw, files.adapters, files.ip_adapters, wraps_around=request.tiling)
    image = ImageRun(run, parts, unseen)
    image.run.start()
    return image


def _images(pipeline: Pipeline, arguments: Mapping[str, object]) -> Any:
    return pipeline(**arguments).images


def _looking_first(
    draw: Callable[[], Any], pipeline: Pipeline, arguments: dict[str, object], sample: Sample
) -> Callable[[], Any]:
    """``draw``, which uses ``arguments``, after the IP-Adapters of ``sample`` have seen their pictures.

    Raises:
        InvalidRequest: its pipeline takes none.
    """
    if looking.ARGUMENT not in inspect.signature(type(pipeline).__call__).parameters:
        raise InvalidRequest(
            f"{type(pipeline).__name__}, by which it is drawn, takes no IP-Adapters", field="ip_adapter"
        )
    task = sample.task
    applied, images = files_of(task).ip_adapters, task.image_prompts

    def draw_after_looking() -> Any:
        arguments[looking.ARGUMENT] = looking.seen(pipeline, applied, images, guided=task.request.guided)
        return draw()

    return draw_after_looking
