"""One pass over a picture: a pipeline of its own, what it is called with, and what is counted of its steps."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from stablediffusiond.engine.controlnets import arguments_of
from stablediffusiond.engine.ip_adapters import looking
from stablediffusiond.engine.job import Kind, Task
from stablediffusiond.engine.networks import Pipeline
from stablediffusiond.engine.parts import Denoising
from stablediffusiond.engine.pipelines import ModelPipelines
from stablediffusiond.engine.request_files import files_of
from stablediffusiond.errors import InvalidRequest


@dataclass(frozen=True)
class Pass:
    task: Task
    pipeline: Pipeline
    arguments: Mapping[str, object] = field(repr=False)
    part: Denoising
    unseen: Sequence[str] = ()  #: the ends of its prompts that no text encoder has seen

    def images(self, **others: object) -> Any:
        """What the pipeline makes, (1, 3, H, W) from 0 to 1; ``others`` go before its own arguments.

        Its IP-Adapters see their pictures first: that is a call of a network, and this is the run's own stack.
        """
        given = {**self.arguments, **others}
        if applied := files_of(self.task).ip_adapters:
            images, guided = self.task.image_prompts, self.task.request.guided
            given[looking.ARGUMENT] = looking.seen(self.pipeline, applied, images, guided=guided)
        return self.pipeline(**given).images


def make_pass(
    pipelines: ModelPipelines,
    task: Task,
    kind: Kind,
    generator: torch.Generator,
    *,
    expected_steps: int | None = None,
) -> Pass:
    """That of an image of ``task``, of the size of ``kind``, whose noise comes from ``generator``.

    ``expected_steps`` are reckoned for one that does not begin at once.

    Raises:
        InvalidRequest: its sampler, a ControlNet or an IP-Adapter is not for this model.
    """
    files = files_of(task)
    scheduler = pipelines.scheduler_for(task, generator)
    pipeline, unseen = pipelines.for_image(task.request, scheduler, files)
    arguments = pipelines.arguments.of(task, kind, generator)
    if files.controlnets:
        arguments |= arguments_of(pipeline, task.request.control, task.controls)
    if files.ip_adapters and looking.ARGUMENT not in inspect.signature(type(pipeline).__call__).parameters:
        said = f"{type(pipeline).__name__}, by which it is drawn, takes no IP-Adapters"
        raise InvalidRequest(said, field="ip_adapter")
    part = Denoising(pipeline, scheduler, kind, pipelines.denoiser, expected_steps)
    return Pass(task, pipeline, arguments, part, unseen)
