"""Diffusers' schedulers by the names of ``samplers``: one an image, since each keeps the state of its own run."""

from typing import Any, Final

import diffusers

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


def name_of(scheduler: Scheduler) -> str:
    """The name of the sampler that ``scheduler`` is; its class's name if it is none that we have a name for."""
    kind = type(scheduler).__name__
    known = find(kind) if kind in _CLASSES.values() else None
    if known is None:
        return kind
    schedule = next((word for word, flag in _FLAGS.items() if scheduler.config.get(flag)), None)
    return str(Sampler(known.name, schedule))
