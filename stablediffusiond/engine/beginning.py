"""From a sample to a pipeline that is suspended at its first call."""

import torch

from stablediffusiond.engine.coalescing import PipelineRun
from stablediffusiond.engine.image_run import ImageRun, adapters_of
from stablediffusiond.engine.job import Sample
from stablediffusiond.engine.pipelines import ModelPipelines
from stablediffusiond.engine.refiner import Refiner


def begin(sample: Sample, pipelines: ModelPipelines, refiner: Refiner | None) -> ImageRun:
    """The run of ``sample``, of the model of ``pipelines``, and of ``refiner`` for its last steps if it has any for it.

    Raises:
        InvalidRequest: its sampler is not for this model.
    """
    request = sample.task.request
    generator = torch.Generator("cpu").manual_seed(request.image_seed(sample.index))
    scheduler = pipelines.scheduler_for(sample.task, generator)
    adapters = adapters_of(sample)
    pipeline, unseen = pipelines.for_image(request, scheduler, adapters)
    arguments = pipelines.arguments.of(sample.task, sample.kind, generator)
    parts = [(pipeline, scheduler)]
    if refiner is not None and refiner.serves(sample.task, pipelines):
        refining = refiner.refining(pipeline, arguments, sample.task, sample.kind, generator)
        parts.append((refining.pipeline, refining.scheduler))
        run = PipelineRun(refining.draw, adapters)
    else:
        run = PipelineRun(lambda: pipeline(**arguments).images, adapters)
    image = ImageRun(run, parts, unseen)
    image.run.start()
    return image
