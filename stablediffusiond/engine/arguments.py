"""From a request to the arguments of a pipeline: by its signature, with the model's own defaults."""

import inspect
from collections.abc import Mapping
from typing import Final

import torch

from stablediffusiond.engine.altered import has_edges
from stablediffusiond.engine.job import Kind, Task
from stablediffusiond.engine.model_defaults import ModelDefaults, guidance_argument
from stablediffusiond.engine.networks import Pipeline, denoiser_of, multiple_of, own_pixels
from stablediffusiond.engine.prompts.encoding import weighs_words
from stablediffusiond.errors import InvalidRequest
from stablediffusiond.messages import prompt_syntax
from stablediffusiond.messages.complete_request import CompleteRequest
from stablediffusiond.messages.hires import Hires
from stablediffusiond.messages.request import JobType, Request

#: Models know no finer noise levels.
_TRAINING_STEPS: Final = 1000
_ROUNDING: Final = 1e-9
#: Guidance needs something to lead away from; pipelines that encode it only if there is one take this for nothing.
_NOTHING: Final = " "


class Arguments:
    """Those of the pipelines of one model, which are ``by_task``."""

    def __init__(self, by_task: Mapping[JobType, Pipeline], defaults: ModelDefaults) -> None:
        self._by_task = by_task
        self._defaults = defaults
        some = next(iter(by_task.values()))
        self._own = own_pixels(some)
        self._multiple = multiple_of(some)
        self._weighs_words = weighs_words(some)
        self._reads_twice = getattr(some, "text_encoder_2", None) is not None
        self._has_edges = has_edges(denoiser_of(some))
        self._guidance = {task: guidance_argument(pipeline) for task, pipeline in by_task.items()}
        self._taken = {
            task: frozenset(inspect.signature(type(pipeline).__call__).parameters) for task, pipeline in by_task.items()
        }

    # Before a job begins; from any thread

    def complete(self, request: Request) -> tuple[CompleteRequest, list[str]]:
        """``request`` with what it leaves open chosen, and the warnings about what the model has no use for.

        Raises:
            InvalidRequest: the model has no pipeline for its task.
        """
        if request.type not in self._by_task:
            known = ", ".join(self._by_task)
            raise InvalidRequest(f"this model cannot be used for {request.type}, only for {known}", field="type")
        if self._weighs_words and request.prompt_syntax == "a1111":
            prompt_syntax.check(request.prompt_to_read, "prompt")
            prompt_syntax.check(request.negative_prompt, "negative_prompt")
        complete = CompleteRequest.of(request, self._defaults.steps, self._defaults.guidance_for(request.type))
        if complete.hires is not None:
            size = self._second_size(complete.hires, self.size_of(request))
            complete = complete.model_copy(update={"second_size": size})
        return complete, [*self._unused(complete), *self._rounded(request)]

    def size_of(self, request: Request) -> tuple[int, int]:
        """Width and height, the model's own where the request names none."""
        width, height = (
            asked if asked is None else max(round(asked / self._multiple), 1) * self._multiple
            for asked in (request.width, request.height)
        )
        return width or self._own[0], height or self._own[1]

    def _second_size(self, hires: Hires, first: tuple[int, int]) -> tuple[int, int]:
        """That of the picture whose first pass has the size ``first``.

        Raises:
            InvalidRequest: the model has no second pass.
        """
        if not self.begins_later("img2img"):
            raise InvalidRequest("this model draws no picture on, so that it has no second pass", field="hires")
        return hires.size(first, self._multiple)

    def _unused(self, request: CompleteRequest) -> list[str]:
        taken, asked = self._taken[request.type], request.model_fields_set
        warnings = []
        if request.negative_prompt and not self._takes_negative(request.type):
            warnings.append("this model has no use for 'negative_prompt'")
        elif request.negative_prompt and not request.guided:
            warnings.append("'negative_prompt' is only looked at under guidance, 'guidance_scale' over 1")
        if not request.masked and any(name.startswith("mask_") for name in asked):
            warnings.append("what begins with 'mask_' is only looked at beside a mask")
        varied = hasattr(self._by_task[request.type], "prepare_latents")
        of_no_use = {
            "guidance_scale": "guidance_scale" in asked and self._guidance[request.type] not in taken,
            "guidance_rescale": request.guidance_rescale and "guidance_rescale" not in taken,
            "clip_skip": (request.clip_skip or 1) > 1 and "clip_skip" not in taken,
            "eta": request.eta and "eta" not in taken,
            "strength": "strength" in asked and request.image is not None and "strength" not in taken,
            "subseed_strength": request.subseed_strength and not varied,
            "tiling": request.tiling and not self._has_edges,
        }
        return [*warnings, *(f"this model has no use for {name!r}" for name, idle in of_no_use.items() if idle)]

    def _takes_negative(self, task: JobType) -> bool:
        told_its_guidance = "true_cfg_scale" in self._taken[task] and self._guidance[task] != "true_cfg_scale"
        return "negative_prompt" in self._taken[task] and not told_its_guidance

    def _rounded(self, request: Request) -> list[str]:
        drawn = self.size_of(request)
        return [
            f"{name!r} {asked} became {made}: this model draws multiples of {self._multiple}"
            for name, asked, made in zip(("width", "height"), (request.width, request.height), drawn, strict=True)
            if asked is not None and asked != made
        ]

    # For the call

    def takes(self, task: JobType, name: str) -> bool:
        """Whether the pipeline for ``task`` has an argument ``name``."""
        return name in self._taken[task]

    def of(self, task: Task, kind: Kind, generator: torch.Generator) -> dict[str, object]:
        """What the request of ``task`` asks for, as far as its pipeline takes it."""
        request = task.request
        taken = self._taken[request.type]
        steps, strength = request.steps, self.strength_of(task)
        if strength is not None:
            steps, strength = _at_least_one_step(steps, strength)
        guidance = self._guidance[request.type]
        negative: str | None = request.negative_prompt or None
        if guidance == "true_cfg_scale" and request.guided:
            negative = negative or _NOTHING
        wanted = {
            "prompt": request.prompt_to_read,
            "negative_prompt": negative if self._takes_negative(request.type) else None,
            "num_inference_steps": steps,
            guidance: request.guidance_scale,
            "eta": request.eta,
            "guidance_rescale": request.guidance_rescale,
            "clip_skip": self._layers_skipped(request),
            "width": kind.width,
            "height": kind.height,
            "max_area": kind.pixels,  # else some scale what was asked for to their own size
            "image": task.init_image,
            "mask_image": task.mask,
            "strength": strength,
            "generator": generator,
            "output_type": "pt",
            "use_resolution_binning": False,  # which would draw another size, and scale it
        }
        return {name: value for name, value in wanted.items() if name in taken and value is not None}

    def _layers_skipped(self, request: CompleteRequest) -> int | None:
        """diffusers counts from the layer that the model reads by itself: the last, or in later models the one before.

        Those are made for that one, and A1111 has 1 and 2 mean it.
        """
        own = 2 if self._reads_twice else 1
        return None if request.clip_skip is None or request.clip_skip <= own else request.clip_skip - own

    def strength_of(self, task: Task) -> float | None:
        """How much of the image is drawn anew, where its pipeline begins in the middle of its steps."""
        begins_later = task.init_image is not None and self.begins_later(task.request.type)
        return task.request.strength if begins_later else None

    def begins_later(self, task: JobType) -> bool:
        """Whether the model has a pipeline for ``task`` that begins in the middle of its steps."""
        return "strength" in self._taken.get(task, ())


def _at_least_one_step(steps: int, strength: float) -> tuple[int, float]:
    """Steps and strength of which there is one step at least.

    Of ``steps`` pipelines go through the last ``strength`` part; where that is less than one step they make none, or an
    error. One step of more and finer ones begins at the noise level that was asked for.
    """
    if steps * strength >= 1:
        return steps, strength
    finer = min(max(steps, round(1 / strength)), _TRAINING_STEPS)
    return finer, (1 + _ROUNDING) / finer
