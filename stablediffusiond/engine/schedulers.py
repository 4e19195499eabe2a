"""Diffusers' schedulers by the names of ``samplers``: one an image, since each keeps the state of its own run.

Where a step of one is no more than a sum of two products, whatever the run has been so far, its factors can be known
beforehand, and images that are at different steps, and of different schedulers, step in one operation (`Affine`).
"""

from dataclasses import dataclass
from typing import Any, Final

import diffusers
import torch
from torch import Tensor

from stablediffusiond.samplers import Sampler, find

#: Scheduler classes have no common typed base in diffusers; whoever takes one uses ``timesteps`` and ``step``.
Scheduler = Any

_CLASSES: Final[dict[str, str]] = {
    "DDIM": "DDIMScheduler",
    "PLMS": "PNDMScheduler",
    "Euler": "EulerDiscreteScheduler",
    "Euler a": "EulerAncestralDiscreteScheduler",
    "LMS": "LMSDiscreteScheduler",
    "Heun": "HeunDiscreteScheduler",
    "DPM2": "KDPM2DiscreteScheduler",
    "DPM2 a": "KDPM2AncestralDiscreteScheduler",
    "DPM++ 2M": "DPMSolverMultistepScheduler",
    "DPM++ 2S": "DPMSolverSinglestepScheduler",
    "UniPC": "UniPCMultistepScheduler",
    "DEIS": "DEISMultistepScheduler",
    "DDPM": "DDPMScheduler",
    "LCM": "LCMScheduler",
}
_FLAGS: Final = {"Karras": "use_karras_sigmas", "Exponential": "use_exponential_sigmas"}


def make(sampler: Sampler | None, own: Scheduler) -> Scheduler:
    """A new scheduler for one image: ``sampler``, or the model's ``own`` class, with the model's own noise schedule."""
    if sampler is None:
        return type(own).from_config(own.config)
    flags = {_FLAGS[sampler.schedule]: True} if sampler.schedule else {}
    return getattr(diffusers, _CLASSES[sampler.name]).from_config(own.config, **flags)


@dataclass(frozen=True)
class Affine:
    """All steps of a run: ``latents = of_latents * latents + of_prediction * prediction``; one number a step each."""

    into_unet: tuple[float, ...]  #: what the latents are multiplied by for the UNet
    of_latents: tuple[float, ...]
    of_prediction: tuple[float, ...]


def affine(scheduler: Scheduler, timesteps: Tensor, eta: float) -> Affine | None:
    """The factors of a run of ``scheduler`` through ``timesteps``, or None where a step is more than that.

    The scheduler itself is asked for them, with ones and noughts for latents and predictions: the mathematics stays in
    diffusers. The run is over afterwards.
    """
    if not _is_affine(scheduler, eta):
        return None
    latents, prediction = (torch.tensor(unit).reshape(2, 1, 1, 1) for unit in ((1.0, 0.0), (0.0, 1.0)))
    factors = []
    for timestep in timesteps:
        into_unet = scheduler.scale_model_input(latents, timestep)[0].item()
        factors.append((into_unet, *scheduler.step(prediction, timestep, latents, return_dict=False)[0].flatten()))
    return Affine(*(tuple(map(float, each)) for each in zip(*factors, strict=True)))


def _is_affine(scheduler: Scheduler, eta: float) -> bool:
    kind, config = type(scheduler), scheduler.config
    if kind is diffusers.DDIMScheduler:
        return not (eta or config.clip_sample or config.thresholding)
    return kind is diffusers.EulerDiscreteScheduler


def name_of(scheduler: Scheduler) -> str:
    """The name of the sampler that ``scheduler`` is; its class's name if it is none that we have a name for."""
    kind = type(scheduler).__name__
    known = find(kind) if kind in _CLASSES.values() else None
    if known is None:
        return kind
    schedule = next((word for word, flag in _FLAGS.items() if scheduler.config.get(flag)), None)
    return str(Sampler(known.name, schedule))
