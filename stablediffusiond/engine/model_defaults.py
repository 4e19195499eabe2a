"""What a model is drawn with where a request says nothing: steps, guidance, and how its timesteps are spaced.

Settings come first, then what is known of models that were distilled to few steps, then what diffusers' pipeline for
the model has as its own defaults.
"""

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from stablediffusiond.engine.networks import Pipeline, denoiser_of
from stablediffusiond.messages.request import JobType

_STEPS: Final = 50
_GUIDANCE_SCALE: Final = 7.5
#: A picture that is there guides by itself.
_MOST_GUIDANCE_OF_IMG2IMG: Final = 5.0
#: What stands in the names of models distilled to few steps -> the steps that their authors recommend, without
#: guidance: https://huggingface.co/stabilityai/sdxl-turbo, https://huggingface.co/ByteDance/SDXL-Lightning,
#: https://huggingface.co/ByteDance/Hyper-SD, https://huggingface.co/black-forest-labs/FLUX.1-schnell,
#: https://huggingface.co/latent-consistency
_FEW_STEPS: Final[Mapping[str, int]] = {
    r"turbo": 4, r"lightning": 4, r"hyper[-_ ]?(sd|flux|\d)": 8, r"schnell": 4, r"(?<![a-z])lcm(?![a-z])": 4,
}  # fmt: skip
#: Such a name may say for how many: "SDXL-Lightning-8step".
_SAID_STEPS: Final = re.compile(r"(\d+)[-_ ]?steps?\b")
#: Schedulers that only such models have.
_OF_FEW_STEPS: Final = frozenset({"LCMScheduler", "TCDScheduler"})
#: Keys of configs that mark a model that was distilled to few steps.
_DISTILLED: Final = ("is_distilled",)


@dataclass(frozen=True)
class ModelDefaults:
    steps: int
    guidance_scale: float
    #: How timesteps are spaced, where the model's own config has it wrong; else None.
    timestep_spacing: str | None = None
    #: ``guidance_scale`` holds for pictures that begin with an image as well.
    for_images: bool = True

    def guidance_for(self, task: JobType) -> float:
        if task == "img2img" and not self.for_images:
            return min(self.guidance_scale, _MOST_GUIDANCE_OF_IMG2IMG)
        return self.guidance_scale


def defaults_of(
    pipeline: Pipeline, name: str, steps: int | None = None, guidance_scale: float | None = None
) -> ModelDefaults:
    """``pipeline`` is that of a model called ``name``; ``steps`` and ``guidance_scale`` are the settings'."""
    few = _few_steps(pipeline, name)
    if few is not None:
        made = ModelDefaults(few, _embedded_guidance(pipeline) or 1.0, "trailing")
    else:
        own_steps = _own(pipeline, "num_inference_steps") or _STEPS
        made = ModelDefaults(int(own_steps), _own_guidance(pipeline), for_images=False)
    return ModelDefaults(
        made.steps if steps is None else steps,
        made.guidance_scale if guidance_scale is None else guidance_scale,
        made.timestep_spacing,
        made.for_images or guidance_scale is not None,
    )


def guidance_argument(pipeline: Pipeline) -> str:
    """The argument of ``pipeline`` that is the scale of guidance.

    Some have a second one: the scale that a distilled network is told takes the first, and calling the network twice,
    which any other model needs, the second.
    """
    takes = inspect.signature(type(pipeline).__call__).parameters
    told = bool(denoiser_of(pipeline).config.get("guidance_embeds"))
    return "true_cfg_scale" if "true_cfg_scale" in takes and not told else "guidance_scale"


def _few_steps(pipeline: Pipeline, name: str) -> int | None:
    lower = re.split(r"[/\\]", name.rstrip("/\\"))[-1].lower()
    said = _SAID_STEPS.search(lower)
    for pattern, steps in _FEW_STEPS.items():
        if re.search(pattern, lower):
            return int(said[1]) if said else steps
    marked = any(pipeline.config.get(key) for key in _DISTILLED)
    if marked or type(pipeline.scheduler).__name__ in _OF_FEW_STEPS or _embedded_guidance(pipeline):
        return 4
    return None


def _embedded_guidance(pipeline: Pipeline) -> float | None:
    """The guidance scale of a UNet that is told it, as latent consistency models are."""
    told = denoiser_of(pipeline).config.get("time_cond_proj_dim")
    return float(_own(pipeline, "guidance_scale") or _GUIDANCE_SCALE) if told else None


def _own_guidance(pipeline: Pipeline) -> float:
    own = _own(pipeline, guidance_argument(pipeline))
    return _GUIDANCE_SCALE if own is None else float(own)


def _own(pipeline: Pipeline, argument: str) -> Any:
    """What the pipeline takes if nothing is said; None where it says nothing, either."""
    parameter = inspect.signature(type(pipeline).__call__).parameters.get(argument)
    return None if parameter is None or parameter.default is inspect.Parameter.empty else parameter.default
