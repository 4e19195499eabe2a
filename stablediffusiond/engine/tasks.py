"""Which of diffusers' pipelines serves which task of one model, over the same networks.

Diffusers itself knows most of them (``AutoPipelineFor…``), and names the others by one rule. What a class takes its
signature says. So nothing here names a family of models.
"""

import inspect
from collections.abc import Mapping
from typing import Any, Final

import diffusers
from diffusers import AutoPipelineForImage2Image, AutoPipelineForInpainting, AutoPipelineForText2Image
from diffusers.configuration_utils import FrozenDict

from stablediffusiond.engine.networks import Pipeline, denoiser_of
from stablediffusiond.messages.request import JobType

_AUTO: Final[Mapping[JobType, Any]] = {
    "txt2img": AutoPipelineForText2Image,
    "img2img": AutoPipelineForImage2Image,
    "inpaint": AutoPipelineForInpainting,
}
#: What diffusers puts before "Pipeline" in the names of classes for a task.
_INFIXES: Final[Mapping[JobType, str]] = {"txt2img": "", "img2img": "Img2Img", "inpaint": "Inpaint"}
#: What a task gives to its pipeline, so that a pipeline that takes it, and needs no more, serves the task.
_GIVEN: Final[Mapping[JobType, frozenset[str]]] = {
    "txt2img": frozenset(),
    "img2img": frozenset({"image"}),
    "inpaint": frozenset({"image", "mask_image"}),
}


def pipelines_by_task(base: Pipeline) -> dict[JobType, Pipeline]:
    """The tasks that the model of ``base`` can be used for, each with its pipeline."""
    if _is_conditioned(base):
        return dict([_only_task(base)])
    found = {task: _for_task(task, base) for task in _AUTO}
    if found["inpaint"] is not None:
        _take_any_number_of_channels(found["inpaint"])
    return {task: pipeline for task, pipeline in found.items() if pipeline is not None}


def _is_conditioned(base: Pipeline) -> bool:
    """Whether the network sees more than noise: a mask, or a picture, beside it. It can then do nothing else."""
    config = denoiser_of(base).config
    given, made = config.get("in_channels"), config.get("out_channels")
    if not given or not made:
        return False
    patch = config.get("patch_size") or 1
    return bool(given > made * (patch * patch if isinstance(patch, int) else 1))


def _only_task(base: Pipeline) -> tuple[JobType, Pipeline]:
    """The task that needs most of what ``base`` takes; a folder may call such a model an ordinary one."""
    own: JobType = max(
        (task for task in _AUTO if _serves(task, type(base))), key=lambda task: len(_GIVEN[task]), default="txt2img"
    )
    if own == "txt2img" and (pipeline := _from_auto("inpaint", base)) is not None:
        return "inpaint", pipeline
    return own, base


def _for_task(task: JobType, base: Pipeline) -> Pipeline | None:
    """The pipeline that diffusers names for ``task``, else ``base`` if it takes what the task gives."""
    if (pipeline := _from_auto(task, base)) is not None:
        return pipeline
    if (kind := _by_name(task, type(base))) is not None:
        return with_more(kind, base)
    return base if _serves(task, type(base)) else None


def _from_auto(task: JobType, base: Pipeline) -> Pipeline | None:
    try:
        return _AUTO[task].from_pipe(base)
    except ValueError:
        return None  # diffusers knows no class for it


def with_more(kind: Any, base: Pipeline, **more: Any) -> Pipeline:
    """A pipeline of ``kind`` over the networks of ``base``, and ``more``.

    That is what ``kind.from_pipe`` makes, which also casts the networks, to float32 if it is not told otherwise.
    """
    taken = inspect.signature(kind.__init__).parameters
    given = {**base.config, **base.components, **more}
    return kind(**{name: value for name, value in given.items() if name in taken})


def _by_name(task: JobType, kind: type) -> Any | None:
    name = kind.__name__.removesuffix("Pipeline") + _INFIXES[task] + "Pipeline"
    found = getattr(diffusers, name, None) if _INFIXES[task] else None
    return found if found is not None and _serves(task, found) else None


class _FourChannels:
    """``unet``, whose config says that it has four channels."""

    def __init__(self, unet: Any) -> None:
        self._unet = unet
        self.config = FrozenDict({**unet.config, "in_channels": 4})

    def __getattr__(self, name: str) -> Any:
        return getattr(self._unet, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._unet(*args, **kwargs)


def _take_any_number_of_channels(inpainting: Pipeline) -> None:
    """To diffusers' inpainting pipeline a UNet that sees no mask has four channels; the built-in model's has eight."""
    unet = getattr(inpainting, "unet", None)
    if unet is not None and unet.config.in_channels == inpainting.vae.config.latent_channels != 4:
        inpainting.__dict__["unet"] = _FourChannels(unet)


def _serves(task: JobType, kind: type) -> bool:
    parameters = inspect.signature(kind.__call__).parameters
    required = {name for name, each in parameters.items() if each.default is inspect.Parameter.empty}
    needed = required - {"self", "prompt", "args", "kwargs"}
    given = _GIVEN[task]
    return given <= parameters.keys() and needed <= given
