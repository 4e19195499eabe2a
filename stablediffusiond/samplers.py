"""The names of the samplers: which spellings of A1111, k-diffusion, ComfyUI and diffusers mean which sampler.

Only names live here, so that a client can check one without torch; ``engine/schedulers.py`` turns them into diffusers
classes. A *sampler* is the solver, a *schedule* is how its noise levels are spaced; A1111 wrote both into one
name ("DPM++ 2M Karras") and later into two, diffusers has a flag for the second.
"""

import difflib
import re
from dataclasses import dataclass
from typing import Final

from stablediffusiond.errors import InvalidRequest

#: Canonical name (A1111's label) -> the other spellings; upper and lower case, spaces, "_" and "-" are not told apart.
_SPELLINGS: Final[dict[str, tuple[str, ...]]] = {
    "DDIM": ("k_ddim", "DDIMScheduler"),
    "PLMS": ("k_plms", "PNDM", "PNDMScheduler"),
    "Euler": ("k_euler", "EulerDiscreteScheduler"),
    "Euler a": ("k_euler_a", "k_euler_ancestral", "euler_ancestral", "EulerAncestralDiscreteScheduler"),
    "LMS": ("k_lms", "LMSDiscreteScheduler"),
    "Heun": ("k_heun", "HeunDiscreteScheduler"),
    "DPM2": ("k_dpm_2", "dpm_2", "KDPM2DiscreteScheduler"),
    "DPM2 a": ("k_dpm_2_a", "k_dpm_2_ancestral", "dpm_2_ancestral", "KDPM2AncestralDiscreteScheduler"),
    "DPM++ 2M": ("k_dpmpp_2m", "dpmpp_2m", "DPMSolverMultistepScheduler"),
    "DPM++ 2S": ("k_dpmpp_2s", "dpmpp_2s", "DPMSolverSinglestepScheduler"),
    "UniPC": ("uni_pc", "k_uni_pc", "UniPCMultistepScheduler"),
    "DEIS": ("k_deis", "DEISMultistepScheduler"),
    "DDPM": ("k_ddpm", "DDPMScheduler"),
    "LCM": ("k_lcm", "LCMScheduler"),
}
#: Schedules that diffusers can space by a flag, and who has the flag.
_SPACED: Final = frozenset({"Euler", "LMS", "Heun", "DPM2", "DPM2 a", "DPM++ 2M", "DPM++ 2S", "UniPC", "DEIS"})
_SCHEDULES: Final = {"karras": "Karras", "exponential": "Exponential", "ka": "Karras"}
_OWN_SCHEDULES: Final = frozenset({"automatic", "normal", "default", "uniform"})
#: A1111's and ComfyUI's other schedules: known as such, so that a refusal calls them what they are.
_SCHEDULES_NOT_DONE: Final = frozenset(
    {
        "polyexponential", "sgmuniform", "kloptimal", "alignyoursteps", "simple", "beta", "ddimuniform", "turbo",
        "linearquadratic",
    }
)  # fmt: skip

NAMES: Final[tuple[str, ...]] = tuple(_SPELLINGS)


@dataclass(frozen=True)
class Sampler:
    """A solver by its canonical name and, where asked for, a spacing of its noise levels."""

    name: str
    schedule: str | None = None  #: "Karras", "Exponential" or None: the model's own

    def __str__(self) -> str:
        return f"{self.name} {self.schedule}" if self.schedule else self.name


def _key(text: str) -> str:
    return re.sub(r"[\s_\-]+", "", text.lower())


_BY_KEY: Final = {_key(spelling): name for name, others in _SPELLINGS.items() for spelling in (name, *others)}


def find(name: str, schedule: str | None = None) -> Sampler | None:
    """The sampler that ``name`` means, with ``schedule`` (A1111's "Schedule type") beside it.

    Returns None when both leave the choice to the model. ``name`` may end with the schedule, and a
    request that has only a ``schedule`` may mean a sampler by it, as diffusers' users do.

    Raises:
        InvalidRequest: no such sampler or schedule, or a sampler that cannot be spaced that way.
    """
    spacing = _schedule(schedule) if schedule else None
    stem, _, suffix = name.replace("_", " ").strip().rpartition(" ")
    if stem and suffix.lower() in _SCHEDULES and _key(name) not in _BY_KEY:
        spacing, name = _SCHEDULES[suffix.lower()], stem
    if _key(name) in _OWN_SCHEDULES:
        return None
    canonical = _BY_KEY.get(_key(name))
    if canonical is None:
        near = difflib.get_close_matches(_key(name), _BY_KEY, n=1)
        hint = f"did you mean {_BY_KEY[near[0]]!r}? " if near else ""
        raise InvalidRequest(f"unknown sampler {name!r}; {hint}known: {', '.join(NAMES)}", field="sampler")
    if spacing and canonical not in _SPACED:
        raise InvalidRequest(f"{canonical} has no {spacing} schedule; leave it out", field="sampler")
    return Sampler(canonical, spacing)


def is_schedule(text: str) -> bool:
    """Whether ``text`` names a spacing of noise levels and not a sampler."""
    return any(_key(text) in names for names in (_OWN_SCHEDULES, _SCHEDULES, _SCHEDULES_NOT_DONE))


def _schedule(text: str) -> str | None:
    if _key(text) in _OWN_SCHEDULES:
        return None
    if _key(text) not in _SCHEDULES:
        known = ", ".join(sorted({*_OWN_SCHEDULES, "karras", "exponential"}))
        raise InvalidRequest(f"unknown schedule {text!r}; known: {known}", field="scheduler")
    return _SCHEDULES[_key(text)]
