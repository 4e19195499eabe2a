"""A scheduler prepared for one image, with corrections of what diffusers' do wrong for a single one."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from diffusers import LMSDiscreteScheduler, PNDMScheduler
from torch import Tensor

from stablediffusiond.engine.schedulers import Scheduler, name_of
from stablediffusiond.errors import InvalidRequest


class ImageScheduler:
    """Prepares ``scheduler`` for one image, and follows its run.

    Its timesteps stay in host memory, so that a scheduler that looks one up never waits for the device. The noise in
    its steps comes from the image's own ``generator``, also where a pipeline does not pass it on.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        generator: torch.Generator,
        *,
        strength: float | None = None,
        sigmas: Callable[[int], list[float]] | None = None,
    ) -> None:
        """``strength`` is that of img2img. ``sigmas`` gives the noise levels of a run of so many steps."""
        self.scheduler = scheduler
        #: Steps made.
        self.steps_done = 0
        #: What the last step made of the latents, in the layout of the pipeline; None before the first.
        self.latents: Tensor | None = None
        #: Puts other latents in the place of what a step made.
        self.replace: Callable[[Tensor], Tensor] | None = None
        self._strength = strength
        self._sigmas = sigmas
        self._generator = generator
        self._set_timesteps = scheduler.set_timesteps
        self._step = scheduler.step
        self._step_takes = inspect.signature(scheduler.step).parameters
        scheduler.set_timesteps = _in_place_of(scheduler.set_timesteps, self._set_on_host)
        scheduler.step = _in_place_of(scheduler.step, self._step_once)

    @property
    def name(self) -> str:
        return name_of(self.scheduler)

    def _set_on_host(self, num_inference_steps: int | None = None, device: object = None, **kwargs: Any) -> None:
        del device
        if self._sigmas is not None and num_inference_steps is not None:
            kwargs |= _as_taken(self._sigmas(num_inference_steps), self.scheduler, self._set_timesteps)
            num_inference_steps = None
        given = {} if num_inference_steps is None else {"num_inference_steps": num_inference_steps}
        try:
            self._set_timesteps(**given, **kwargs, device="cpu")
        except (ValueError, IndexError, AssertionError) as error:
            said = f"{self.name} cannot make {num_inference_steps} steps: {error}"
            raise InvalidRequest(said, field="steps") from None
        self._check_levels(num_inference_steps or 0)
        if isinstance(self.scheduler, PNDMScheduler) and self._strength is not None:
            scheduler: Scheduler = self.scheduler
            scheduler.timesteps = _begun_later(scheduler.timesteps, self._strength)

    def _check_levels(self, steps: int) -> None:
        """Refuse more steps than the model has noise levels, of which diffusers makes steps between equal levels.

        As many are too many already for a scheduler that looks levels up by timesteps, where these begin at 1, not 0.
        """
        scheduler: Scheduler = self.scheduler
        if not hasattr(scheduler, "alphas_cumprod"):
            return
        levels = len(scheduler.alphas_cumprod)
        past_the_last = not hasattr(scheduler, "sigmas") and int(scheduler.timesteps.max()) >= levels
        if past_the_last or steps > levels:
            said = f"this model has {levels} noise levels; ask for fewer steps than that"
            raise InvalidRequest(f"{self.name} cannot make {steps} steps: {said}", field="steps")

    def _step_once(self, *args: Any, **kwargs: Any) -> Any:
        if "generator" in self._step_takes and kwargs.get("generator") is None:
            kwargs["generator"] = self._generator
        if isinstance(self.scheduler, LMSDiscreteScheduler):
            # It goes by the number of the step, and in img2img the first one has no others before it.
            kwargs["order"] = min(len(vars(self.scheduler)["derivatives"]) + 1, kwargs.get("order", 4))
        made = self._step(*args, **kwargs)
        self.steps_done += 1
        if self.replace is not None:
            made = (self.replace(made[0]), *made[1:])
        self.latents = made[0]
        return made


def _in_place_of(method: Callable[..., Any], by: Callable[..., Any]) -> Callable[..., Any]:
    """``by`` with the signature of ``method``, by which pipelines tell schedulers apart."""

    @functools.wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        return by(*args, **kwargs)

    return call


def _as_taken(sigmas: list[float], scheduler: Scheduler, set_timesteps: Callable[..., None]) -> dict[str, Any]:
    """Noise levels as the scheduler takes them: as they are, or as the timesteps that have them."""
    if "sigmas" in inspect.signature(set_timesteps).parameters:
        return {"sigmas": sigmas}
    alphas = scheduler.alphas_cumprod.double().numpy()
    known = np.log(((1 - alphas) / alphas) ** 0.5)
    return {"timesteps": np.interp(np.log(sigmas), known, np.arange(len(known))).round().astype(int).tolist()}


def _begun_later(timesteps: Tensor, strength: float) -> Tensor:
    """PLMS's timesteps, so that the part of them that img2img goes through is a run of its own.

    It makes the second of its steps twice, and its list has that timestep twice. A pipeline takes the last ``strength``
    of the list, in which the repetition is then missing, so that it would begin one noise level too high.
    """
    distinct = torch.cat([timesteps[:1], timesteps[2:]])
    steps = len(distinct)
    first = steps - min(max(int(steps * strength), 1), steps)
    return torch.cat([distinct[:first], distinct[first : first + 2], distinct[first + 1 :]])
