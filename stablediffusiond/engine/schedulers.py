"""Diffusers' schedulers by the names of ``samplers``: one an image, since each keeps the state of its own run.

A sampler takes the *noise schedule* from the model, and its *own* parameters from the table here: a model whose config
asks for Karras sigmas or another solver order asks that of its own scheduler, and not of the one that a request names.
"""

import copy
import inspect
import json
from functools import lru_cache
from typing import Any, Final

import diffusers
import numpy as np
from diffusers.schedulers.scheduling_utils import AysSchedules

from stablediffusiond.errors import InvalidRequest
from stablediffusiond.samplers import Sampler

#: Scheduler classes have no common typed base in diffusers; whoever takes one uses ``timesteps`` and ``step``.
Scheduler = Any
Options = dict[str, Any]

_SDE: Final[Options] = {"algorithm_type": "sde-dpmsolver++"}
#: Sampler -> diffusers' class and what tells it from others of that class.
_CLASSES: Final[dict[str, tuple[str, Options]]] = {
    "DDIM": ("DDIMScheduler", {}),
    "PLMS": ("PNDMScheduler", {"skip_prk_steps": True}),
    "Euler": ("EulerDiscreteScheduler", {}),
    "Euler a": ("EulerAncestralDiscreteScheduler", {}),
    "LMS": ("LMSDiscreteScheduler", {}),
    "Heun": ("HeunDiscreteScheduler", {}),
    "DPM2": ("KDPM2DiscreteScheduler", {}),
    "DPM2 a": ("KDPM2AncestralDiscreteScheduler", {}),
    "DPM++ 2M": ("DPMSolverMultistepScheduler", {}),
    "DPM++ 2M SDE": ("DPMSolverMultistepScheduler", _SDE),
    "DPM++ 3M": ("DPMSolverMultistepScheduler", {"solver_order": 3}),
    "DPM++ 3M SDE": ("DPMSolverMultistepScheduler", {**_SDE, "solver_order": 3}),
    "DPM++ 2S": ("DPMSolverSinglestepScheduler", {}),
    "DPM++ SDE": ("DPMSolverSinglestepScheduler", _SDE),
    "UniPC": ("UniPCMultistepScheduler", {}),
    "DEIS": ("DEISMultistepScheduler", {}),
    "SA-Solver": ("SASolverScheduler", {}),
    "IPNDM": ("IPNDMScheduler", {}),
    "DDPM": ("DDPMScheduler", {}),
    "LCM": ("LCMScheduler", {}),
    "TCD": ("TCDScheduler", {}),
}
#: The same for models that predict a flow, where diffusers has a class of its own for them.
_FLOW_CLASSES: Final[dict[str, tuple[str, Options]]] = {
    "Euler": ("FlowMatchEulerDiscreteScheduler", {}),
    "Euler a": ("FlowMatchEulerDiscreteScheduler", {"stochastic_sampling": True}),
    "Heun": ("FlowMatchHeunDiscreteScheduler", {}),
    "LCM": ("FlowMatchLCMScheduler", {}),
}
#: What of a model's config says how its noise is spaced in training; the rest is its own scheduler's affair.
_NOISE: Final = frozenset(
    {"num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas", "prediction_type",
     "rescale_betas_zero_snr", "timestep_spacing", "steps_offset", "set_alpha_to_one", "original_inference_steps",
     "shift", "use_dynamic_shifting", "base_shift", "max_shift", "base_image_seq_len", "max_image_seq_len",
     "shift_terminal", "time_shift_type"}
)  # fmt: skip
#: Latents are no pixels: clipping them to -1 … 1 bends the picture, and there is a noise level below the last.
_LATENTS: Final[Options] = {"clip_sample": False, "thresholding": False, "set_alpha_to_one": False}
_SCHEDULES: Final[dict[str, Options]] = {
    "Karras": {"use_karras_sigmas": True},
    "Exponential": {"use_exponential_sigmas": True},
    "Beta": {"use_beta_sigmas": True},
    "SGM Uniform": {"timestep_spacing": "trailing"},
    "Uniform": {"timestep_spacing": "linspace"},
    "DDIM Uniform": {"timestep_spacing": "leading", "steps_offset": 1},
    "Align Your Steps": {},
}
#: Pipelines -> the noise levels that were found best for ten steps, https://research.nvidia.com/labs/toronto-ai/AlignYourSteps
_ALIGNED: Final = {
    "StableDiffusionPipeline": "StableDiffusionSigmas",
    "StableDiffusionXLPipeline": "StableDiffusionXLSigmas",
}


def make(sampler: Sampler | None, own: Scheduler, **more: object) -> Scheduler:
    """A new scheduler for one image: ``sampler``, or the model's ``own``, with the model's own noise schedule.

    ``more`` goes before what config and table say.

    Raises:
        InvalidRequest: the sampler is not for models that predict a flow.
    """
    if sampler is None:
        return _new(type(own), {**_LATENTS, **_said(own), **_unclipped(own), **more})
    name, options = _class_of(sampler, own)
    noise = {key: value for key, value in _said(own).items() if key in _NOISE}
    spacing = _schedule_options(sampler, name)
    return _new(getattr(diffusers, name), {**_LATENTS, **noise, **options, **spacing, **more})


def _new(kind: Any, config: Options) -> Scheduler:
    """One of that class, copied from one that nothing was done with: DPM2 takes a quarter of a second to be made."""
    try:
        written = json.dumps(config, sort_keys=True)
    except TypeError:  # numbers in an array
        return kind.from_config(config)
    return copy.deepcopy(_first(kind, written))


@lru_cache(maxsize=64)
def _first(kind: Any, config: str) -> Scheduler:
    return kind.from_config(json.loads(config))


def aligned_sigmas(pipeline: Any, steps: int) -> list[float]:
    """The noise levels of Align Your Steps for so many steps, the last of which is not 0.

    Raises:
        InvalidRequest: nobody has found them for this model.
    """
    table = _ALIGNED.get(type(pipeline).__name__)
    if table is None:
        raise InvalidRequest("Align Your Steps is known for Stable Diffusion 1.5 and XL only", field="sampler")
    known = np.log(_levels(table))
    places = np.linspace(0, 1, steps) if steps > 1 else np.zeros(1)
    sigmas: list[float] = np.exp(np.interp(places, np.linspace(0, 1, len(known)), known)).tolist()
    return sigmas


def _levels(table: str) -> list[float]:
    levels: Any = AysSchedules[table]
    return list(levels[:-1])


def name_of(scheduler: Scheduler) -> str:
    """The name of the sampler that ``scheduler`` is; its class's name if it is none that we have a name for."""
    kind, config = type(scheduler).__name__, scheduler.config
    candidates = [
        (len(options), name)
        for classes in (_CLASSES, _FLOW_CLASSES)
        for name, (each, options) in classes.items()
        if each == kind and all(config.get(key) == value for key, value in options.items())
    ]
    if not candidates:
        return kind
    flagged = (
        name
        for name, options in _SCHEDULES.items()
        if any(key.startswith("use_") and config.get(key) for key in options)
    )
    return str(Sampler(max(candidates)[1], next(flagged, None)))


def _class_of(sampler: Sampler, own: Scheduler) -> tuple[str, Options]:
    if not is_flow(own):
        return _CLASSES[sampler.name]
    if sampler.name in _FLOW_CLASSES:
        return _FLOW_CLASSES[sampler.name]
    name, options = _CLASSES[sampler.name]
    if not _takes_flow(name):
        known = [each for each, (kind, _) in _CLASSES.items() if each in _FLOW_CLASSES or _takes_flow(kind)]
        raise InvalidRequest(
            f"{sampler.name} is not for this model, which predicts a flow; known: {', '.join(known)}", field="sampler"
        )
    shift = own.config.get("shift", own.config.get("flow_shift", 1.0))
    return name, {**options, "use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": shift}


def _takes_flow(name: str) -> bool:
    return "use_flow_sigmas" in inspect.signature(getattr(diffusers, name).__init__).parameters


def is_flow(scheduler: Scheduler) -> bool:
    """Whether the model of ``scheduler`` predicts a flow (Stable Diffusion 3, FLUX) and not noise."""
    return type(scheduler).__name__.startswith("FlowMatch") or bool(scheduler.config.get("use_flow_sigmas"))


def _said(own: Scheduler) -> Options:
    """What the model's config says; what it leaves out is for each class to decide."""
    defaults = set(own.config.get("_use_default_values", ()))
    return {key: value for key, value in own.config.items() if key not in defaults and not key.startswith("_")}


def _unclipped(own: Scheduler) -> Options:
    """A config that says to clip is one that was written down from defaults: no model of latents is made so."""
    return {"clip_sample": False} if "clip_sample" in own.config else {}


def _schedule_options(sampler: Sampler, name: str) -> Options:
    if sampler.schedule is None:
        return {}
    options = _SCHEDULES[sampler.schedule]
    if name.startswith("FlowMatch") and not any(key.startswith("use_") for key in options):
        raise InvalidRequest(f"{sampler} is not for this model; it has Karras, Exponential and Beta", field="sampler")
    return options
