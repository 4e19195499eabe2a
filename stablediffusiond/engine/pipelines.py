"""The pipelines that draw with one model: diffusers' own, one for each task, over the same networks.

Which class serves a task diffusers itself knows (``AutoPipelineFor…``); what a class takes its signature says. So
nothing here names a family of models.
"""

import copy
import functools
import inspect
from collections.abc import Iterator, Mapping
from typing import Any, Final

import torch
from diffusers import AutoPipelineForImage2Image, AutoPipelineForInpainting, AutoPipelineForText2Image

from stablediffusiond.engine import schedulers
from stablediffusiond.engine.coalescing import hold
from stablediffusiond.engine.forward import Forward
from stablediffusiond.engine.image_scheduler import ImageScheduler
from stablediffusiond.engine.job import Kind, Task
from stablediffusiond.engine.prompts import PromptCache
from stablediffusiond.errors import InvalidRequest
from stablediffusiond.messages.request import JobType
from stablediffusiond.settings import CompileMode

#: A diffusers pipeline; the library's own types do not say what its pipelines are made of.
Pipeline = Any

_AUTO: Final[Mapping[str, Any]] = {
    "txt2img": AutoPipelineForText2Image,
    "img2img": AutoPipelineForImage2Image,
    "inpaint": AutoPipelineForInpainting,
}
#: What a task gives to its pipeline, so that a pipeline that takes it, and needs no more, serves the task.
_GIVEN: Final[Mapping[str, frozenset[str]]] = {
    "txt2img": frozenset(),
    "img2img": frozenset({"image"}),
    "inpaint": frozenset({"image", "mask_image"}),
}
#: Models know no finer noise levels.
_TRAINING_STEPS: Final = 1000
_ROUNDING: Final = 1e-9
#: The names under which pipelines have the network that makes the steps.
_DENOISERS: Final = ("unet", "transformer", "prior")


class ModelPipelines:
    """One model, opened; ``base`` is the pipeline that it was opened as."""

    def __init__(self, base: Pipeline, compile_mode: CompileMode = "off") -> None:
        self.base = base
        self.denoiser = denoiser_of(base)
        #: Makes the calls of ``denoiser``.
        self.forward = Forward(self.denoiser, compile_mode)
        self.decoders = [module for module in modules_of(base) if _is_autoencoder(module)]
        self.prompts = PromptCache()
        self._by_task: dict[str, Pipeline] = {}
        hold(self.denoiser, function=self.forward)
        for module in modules_of(base):
            if module in self.decoders:
                hold(module, "decode")
                hold(module, "encode", suspend=False)  # what is encoded waits for nobody
            elif module is not self.denoiser:
                hold(module)

    def tasks(self) -> Iterator[str]:
        """The tasks that the model can be used for."""
        for task in _AUTO:
            if self._find(task) is not None:
                yield task

    def for_image(self, task: JobType, scheduler: ImageScheduler) -> Pipeline:
        """A pipeline for one image: its networks are shared, its scheduler and what its ``__call__`` notes are its own.

        Raises:
            InvalidRequest: this model has no pipeline for the task.
        """
        shared = self._find(task)
        if shared is None:
            known = ", ".join(self.tasks())
            raise InvalidRequest(f"this model cannot be used for {task}, only for {known}", field="type")
        own = copy.copy(shared)
        own.__dict__["scheduler"] = scheduler.scheduler  # past __setattr__, which would write it into the shared config
        self.prompts.attach(own)
        return own

    def arguments(self, task: Task, kind: Kind, generator: torch.Generator) -> dict[str, object]:
        """What the request of ``task`` says, as far as its pipeline takes it."""
        request = task.request
        steps, strength = request.steps, None
        if task.init_image is not None:
            steps, strength = _at_least_one_step(request.steps, request.strength)
        wanted = {
            "prompt": request.prompt,
            "negative_prompt": request.negative_prompt or None,
            "num_inference_steps": steps,
            "guidance_scale": request.guidance_scale,
            "eta": request.eta,
            "width": kind.width,
            "height": kind.height,
            "image": task.init_image,
            "strength": strength,
            "generator": generator,
            "output_type": "pt",
            "use_resolution_binning": False,  # which would draw another size, and scale it
        }
        taken = inspect.signature(type(self._find(request.type)).__call__).parameters
        return {name: value for name, value in wanted.items() if name in taken and value is not None}

    def scheduler_for(self, task: Task, generator: torch.Generator) -> ImageScheduler:
        """The scheduler of an image whose noise comes from ``generator``.

        Raises:
            InvalidRequest: the sampler is not for this model, or cannot begin with an image.
        """
        request, sampler = task.request, task.request.chosen_sampler()
        # Of one step out of many only this spacing has the noise level that the strength says.
        few = task.init_image is not None and request.steps * request.strength < 1
        made = schedulers.make(sampler, self.base.scheduler, **({"timestep_spacing": "trailing"} if few else {}))
        if task.init_image is not None and not (hasattr(made, "add_noise") or hasattr(made, "scale_noise")):
            raise InvalidRequest(f"{schedulers.name_of(made)} cannot begin with an image", field="sampler")
        tabled = sampler is not None and sampler.schedule == "Align Your Steps"
        return ImageScheduler(
            made,
            generator,
            strength=request.strength if task.init_image is not None else None,
            sigmas=functools.partial(schedulers.aligned_sigmas, self.base) if tabled else None,
        )

    def _find(self, task: str) -> Pipeline | None:
        if task not in self._by_task:
            made = _pipeline_for(task, self.base)
            if made is not None:
                made.set_progress_bar_config(disable=True)
            self._by_task[task] = made
        return self._by_task[task]


def denoiser_of(pipeline: Pipeline) -> torch.nn.Module:
    """The network that makes the steps."""
    found: torch.nn.Module = next(each for name in _DENOISERS if (each := getattr(pipeline, name, None)) is not None)
    return found


def modules_of(pipeline: Pipeline) -> list[torch.nn.Module]:
    return [each for each in pipeline.components.values() if isinstance(each, torch.nn.Module)]


def own_pixels(pipeline: Pipeline) -> tuple[int, int]:
    """Width and height of the pictures that the model is made for."""
    own = getattr(pipeline, "default_sample_size", None) or getattr(denoiser_of(pipeline).config, "sample_size", None)
    height, width = own if isinstance(own, list | tuple) else (own, own)
    scale = getattr(pipeline, "vae_scale_factor", 8)
    return (width or 128) * scale, (height or 128) * scale


def _at_least_one_step(steps: int, strength: float) -> tuple[int, float]:
    """Steps and strength of which there is one step at least.

    Of ``steps`` pipelines go through the last ``strength`` part; where that is less than one step they make none, or an
    error. One step of more and finer ones begins at the noise level that was asked for.
    """
    if steps * strength >= 1:
        return steps, strength
    finer = min(max(steps, round(1 / strength)), _TRAINING_STEPS)
    return finer, (1 + _ROUNDING) / finer


def _is_autoencoder(module: torch.nn.Module) -> bool:
    """Autoencoders are called by two methods; all other networks by ``forward``."""
    return hasattr(module, "decode") and hasattr(module, "encode")


def _pipeline_for(task: str, base: Pipeline) -> Pipeline | None:
    """The pipeline that diffusers names for ``task``, else ``base`` if it takes what the task gives."""
    try:
        return _AUTO[task].from_pipe(base)
    except ValueError:
        pass  # diffusers knows no class for it
    parameters = inspect.signature(type(base).__call__).parameters
    required = {name for name, each in parameters.items() if each.default is inspect.Parameter.empty}
    needed = required - {"self", "prompt", "args", "kwargs"}
    given = _GIVEN[task]
    return base if given <= parameters.keys() and needed <= given else None
