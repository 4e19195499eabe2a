"""From a sample to a pipeline that is suspended at its first call."""

import torch

from stablediffusiond.engine.coalescing import PipelineRun
from stablediffusiond.engine.image_run import ImageRun
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
    pipeline = pipelines.for_image(request.type, scheduler)
    arguments = pipelines.arguments.of(sample.task, sample.kind, generator)
    if refiner is not None and refiner.serves(sample.task, pipelines):
        refining = refiner.refining(pipeline, arguments, sample.task, sample.kind, generator)
        image = ImageRun(PipelineRun(refining.draw), [(pipeline, scheduler), (refining.pipeline, refining.scheduler)])
    else:
        image = ImageRun(PipelineRun(lambda: pipeline(**arguments).images), [(pipeline, scheduler)])
    image.run.start()
    return image
