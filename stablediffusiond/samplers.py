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
    "DPM++ 2M SDE": ("k_dpmpp_2m_sde", "dpmpp_2m_sde", "dpmpp_2m_sde_gpu"),
    "DPM++ 3M": ("k_dpmpp_3m", "dpmpp_3m"),
    "DPM++ 3M SDE": ("k_dpmpp_3m_sde", "dpmpp_3m_sde", "dpmpp_3m_sde_gpu"),
    "DPM++ 2S": ("k_dpmpp_2s", "dpmpp_2s", "DPMSolverSinglestepScheduler"),
    "DPM++ SDE": ("k_dpmpp_sde", "dpmpp_sde", "dpmpp_sde_gpu"),
    "UniPC": ("uni_pc", "uni_pc_bh2", "k_uni_pc", "UniPCMultistepScheduler"),
    "DEIS": ("k_deis", "DEISMultistepScheduler"),
    "SA-Solver": ("sa_solver", "SASolverScheduler"),
    "IPNDM": ("k_ipndm", "IPNDMScheduler"),
    "DDPM": ("k_ddpm", "DDPMScheduler"),
    "LCM": ("k_lcm", "LCMScheduler"),
    "TCD": ("k_tcd", "TCDScheduler"),
}
#: Names of A1111 and ComfyUI that have no counterpart in diffusers -> what comes nearest.
_NEAREST: Final = {
    "dpm++2sa": "DPM++ 2S", "dpmpp2sancestral": "DPM++ 2S", "dpmfast": "DPM++ 2M", "dpmadaptive": "DPM++ 3M",
    "restart": "Heun", "ddimcfg++": "DDIM", "eulercfg++": "Euler", "eulercfgpp": "Euler",
    "eulerancestralcfgpp": "Euler a",
    "heunpp2": "Heun", "ipndmv": "IPNDM", "dpm++2msdeheun": "DPM++ 2M SDE", "gradientestimation": "DPM++ 2M",
    "resmultistep": "DPM++ 2M", "erssde": "DPM++ 3M SDE", "seeds2": "DPM++ SDE", "seeds3": "DPM++ SDE",
}  # fmt: skip
#: Canonical schedule (A1111's label) -> the other spellings.
_SCHEDULE_SPELLINGS: Final[dict[str, tuple[str, ...]]] = {
    "Karras": ("ka",),
    "Exponential": ("Polyexponential",),  # which is the same with A1111's exponent, 1
    "Beta": (),
    "SGM Uniform": ("Simple", "trailing"),  # the same timesteps, but for rounding
    "Uniform": ("Normal", "linspace"),
    "DDIM Uniform": ("leading", "ddim"),
    "Align Your Steps": ("ays", "align_your_steps_GITS"),
}
_OWN_SCHEDULES: Final = frozenset({"automatic", "default", ""})
#: Schedules of A1111 and ComfyUI that diffusers does not have.
_SCHEDULES_NOT_DONE: Final = frozenset({"kloptimal", "turbo", "linearquadratic"})
_BY_SIGMAS: Final = frozenset(
    {"Euler", "LMS", "Heun", "DPM2", "DPM2 a", "DPM++ 2M", "DPM++ 2M SDE", "DPM++ 3M", "DPM++ 3M SDE", "DPM++ 2S",
     "DPM++ SDE", "UniPC", "DEIS", "SA-Solver"}
)  # fmt: skip
_BY_SPACING: Final = frozenset(
    {"DDIM", "PLMS", "Euler", "Euler a", "LMS", "Heun", "DPM2", "DPM2 a", "DPM++ 2M", "DPM++ 2M SDE", "DPM++ 3M",
     "DPM++ 3M SDE", "UniPC", "DEIS", "SA-Solver", "DDPM"}
)  # fmt: skip
#: Who can be spaced how.
_SPACED: Final = {
    "Karras": _BY_SIGMAS, "Exponential": _BY_SIGMAS, "Beta": _BY_SIGMAS,
    "SGM Uniform": _BY_SPACING, "Uniform": _BY_SPACING, "DDIM Uniform": _BY_SPACING,
    "Align Your Steps": frozenset({"Euler", "Heun", "DPM++ 2M", "DPM++ 2M SDE", "DPM++ 3M", "DPM++ 3M SDE"}),
}  # fmt: skip

NAMES: Final[tuple[str, ...]] = tuple(_SPELLINGS)
SCHEDULES: Final[tuple[str, ...]] = tuple(_SCHEDULE_SPELLINGS)


@dataclass(frozen=True)
class Sampler:
    """A solver by its canonical name and, where asked for, a spacing of its noise levels."""

    name: str
    schedule: str | None = None  #: a canonical schedule, or None: the model's own

    def __str__(self) -> str:
        return f"{self.name} {self.schedule}" if self.schedule else self.name


def _key(text: str) -> str:
    return re.sub(r"[\s_\-]+", "", text.lower())


_BY_KEY: Final = {_key(spelling): name for name, others in _SPELLINGS.items() for spelling in (name, *others)}
_SCHEDULE_BY_KEY: Final = {
    _key(spelling): name for name, others in _SCHEDULE_SPELLINGS.items() for spelling in (name, *others)
}


def find(name: str, schedule: str | None = None) -> Sampler | None:
    """The sampler that ``name`` means, with ``schedule`` (A1111's "Schedule type") beside it.

    Returns None when both leave the choice to the model. ``name`` may carry the schedule as its last words, and a
    request that has only a ``schedule`` may mean a sampler by it, as diffusers' users do.

    Raises:
        InvalidRequest: no such sampler or schedule, or a sampler that cannot be spaced that way.
    """
    spacing = _schedule(schedule) if schedule else None
    if _key(name) not in _BY_KEY:
        stem, suffix = _with_suffix(name)
        if suffix is not None:
            name, spacing = stem, suffix
    if _key(name) in _OWN_SCHEDULES:
        return None
    canonical = _BY_KEY.get(_key(name))
    if canonical is None:
        raise InvalidRequest(f"unknown sampler {name!r}; {_hint(name)}known: {', '.join(NAMES)}", field="sampler")
    if spacing and canonical not in _SPACED[spacing]:
        raise InvalidRequest(f"{canonical} has no {spacing} schedule; leave it out", field="sampler")
    return Sampler(canonical, spacing)


def spellings(name: str) -> tuple[str, ...]:
    """What else the sampler, or the schedule, of this canonical name is called."""
    return _SPELLINGS[name] if name in _SPELLINGS else _SCHEDULE_SPELLINGS[name]


def is_schedule(text: str) -> bool:
    """Whether ``text`` names a spacing of noise levels and not a sampler."""
    return any(_key(text) in names for names in (_OWN_SCHEDULES, _SCHEDULE_BY_KEY, _SCHEDULES_NOT_DONE))


def _with_suffix(name: str) -> tuple[str, str | None]:
    """A name that ends with a schedule, in two: "DPM++ 2M SDE Karras"; the schedule may have up to three words."""
    words = name.replace("_", " ").split()
    for length in (3, 2, 1):
        if len(words) > length and (found := _SCHEDULE_BY_KEY.get(_key("".join(words[-length:])))):
            return " ".join(words[:-length]), found
    return name, None


def _hint(name: str) -> str:
    nearest = _NEAREST.get(_key(name))
    if nearest is None:
        near = difflib.get_close_matches(_key(name), _BY_KEY, n=1)
        return f"did you mean {_BY_KEY[near[0]]!r}? " if near else ""
    return f"diffusers has none like it, and {nearest!r} comes nearest; "


def _schedule(text: str) -> str | None:
    if _key(text) in _OWN_SCHEDULES:
        return None
    if _key(text) not in _SCHEDULE_BY_KEY:
        known = ", ".join(("Automatic", *_SCHEDULE_SPELLINGS))
        raise InvalidRequest(f"unknown schedule {text!r}; known: {known}", field="scheduler")
    return _SCHEDULE_BY_KEY[_key(text)]
