"""The other spellings of a request's fields, and the fields that are accepted and ignored.

People arrive with bodies written for the first stablediffusiond of 2022, for A1111's API, for diffusers and for AI
Horde. All of those say the same few things; this file is the table between them. ``canonical`` turns any such body into
one with canonical names only, and never guesses: two spellings that disagree are an error.
"""

import difflib
from collections.abc import Iterable
from typing import Final

from stablediffusiond import samplers
from stablediffusiond.errors import InvalidRequest

Body = dict[str, object]

#: canonical field -> its other spellings.
ALIASES: Final[dict[str, tuple[str, ...]]] = {
    "type": ("source_processing",),
    "width": ("W",),
    "height": ("H",),
    "steps": ("num_inference_steps", "ddim_steps"),
    "guidance_scale": ("scale", "cfg_scale"),
    "sampler": ("sampler_name", "scheduler"),
    "count": ("n_samples", "batch_size", "num_images_per_prompt", "n"),
    "strength": ("denoising_strength",),
    "image": ("init_img", "init_image", "source_image"),
    "eta": ("ddim_eta",),
}
#: Fields that do not stand for one field alone; ``_unfold`` says what each becomes.
UNFOLDED: Final = ("n_iter", "plms", "init_images")
#: Fields of the first stablediffusiond that have no meaning here any more: a warning in the reply, not an error.
IGNORED: Final = frozenset(
    {"C", "f", "n_rows", "skip_grid", "skip_save", "outdir", "config", "ckpt", "precision", "fixed_code", "laion400m"}
)

_SHOWN_CHARACTERS: Final = 100
#: Whole numbers that are multiplied have to be smaller; a product of a thousand digits can no longer be shown.
_LARGEST: Final = 2**32
_CANONICAL: Final = {alias: name for name, others in ALIASES.items() for alias in others} | {"plms": "sampler"}


def canonical(body: Body, known: Iterable[str]) -> tuple[Body, list[str]]:
    """``body`` with canonical names only, and a warning for each field that was ignored.

    Raises:
        InvalidRequest: an unknown field (with the nearest known one), or two spellings of one field that disagree.
    """
    for name, value in body.items():
        if isinstance(value, dict) or (isinstance(value, list) and name != "init_images"):
            raise InvalidRequest(f"{shown(name)} must not be a list or an object", field=name[:_SHOWN_CHARACTERS])
    known = set(known)
    warnings = [f"{name!r} is accepted and ignored" for name in body if name in IGNORED]
    said: dict[str, str] = {}  # canonical name -> the spelling that set it
    out: Body = {}
    rest = {name: value for name, value in body.items() if name not in IGNORED}
    for name, value in _unfold(rest):
        target = _CANONICAL.get(name, name)
        if target not in known:
            nearest = _nearest(name, known)
            raise InvalidRequest(f"unknown field {shown(name)}{nearest}", field=name[:_SHOWN_CHARACTERS])
        if target in out and out[target] != value:
            raise InvalidRequest(f"{said[target]!r} and {name!r} mean the same and differ; send one", field=name)
        out[target] = value
        said[target] = name
    return out, warnings


def _unfold(body: Body) -> list[tuple[str, object]]:
    """The fields of ``body`` with those that stand for something else replaced by what they stand for."""
    body = dict(body)
    fields: list[tuple[str, object]] = []
    if (images := body.pop("init_images", None)) is not None:
        if not isinstance(images, list) or len(images) != 1:
            raise InvalidRequest("'init_images' must be a list of exactly one picture", field="init_images")
        fields.append(("image", images[0]))
    fields += _unfold_sampler(body)
    if (times := body.pop("n_iter", None)) is not None:
        counts = [name for name in ("count", *ALIASES["count"]) if name in body]
        each = _whole(body.pop(counts[0]), counts[0]) if counts else 1
        fields.append(("count", each * _whole(times, "n_iter")))
    return [*fields, *body.items()]


def _unfold_sampler(body: Body) -> list[tuple[str, object]]:
    """One ``sampler`` out of ``plms``, ``sampler``, ``sampler_name`` and ``scheduler``.

    ``scheduler`` is the sampler for diffusers and the schedule for A1111, which its value tells apart.
    """
    plms = _truth(body.pop("plms", None), "plms")
    names = [(key, body.pop(key)) for key in ("sampler", "sampler_name", "scheduler") if body.get(key) is not None]
    for key in ("sampler", "sampler_name", "scheduler"):
        body.pop(key, None)
    for key, value in names:
        if not isinstance(value, str):
            raise InvalidRequest(f"{key!r} must be text, the name of a sampler", field=key)
    texts = [(key, str(value)[:_SHOWN_CHARACTERS]) for key, value in names]
    schedule = next((text for key, text in texts if key == "scheduler" and samplers.is_schedule(text)), None)
    solvers = [(key, text) for key, text in texts if not (key == "scheduler" and samplers.is_schedule(text))]
    if plms:
        solvers.append(("plms", "PLMS"))
    if not solvers:
        if schedule and samplers.find("DPM++ 2M", schedule) != samplers.Sampler("DPM++ 2M"):
            raise InvalidRequest(f"the schedule {schedule!r} needs a sampler beside it", field="scheduler")
        return []
    found = [(key, samplers.find(text, schedule)) for key, text in solvers]
    return [(key, str(sampler)) for key, sampler in found if sampler]


def _whole(value: object, name: str) -> int:
    try:
        if isinstance(value, int | str) and not isinstance(value, bool):
            number = int(value)
            if abs(number) < _LARGEST:
                return number
    except ValueError:
        pass  # said below, with the name of the field
    raise InvalidRequest(f"{name!r} must be a whole number, not {shown(value)}", field=name)


def _truth(value: object, name: str) -> bool:
    if value is None or isinstance(value, bool):
        return bool(value)
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False, "": False}
    if str(value).strip().lower() not in words:
        raise InvalidRequest(f"{name!r} must be true or false, not {shown(value)}", field=name)
    return words[str(value).strip().lower()]


def shown(value: object) -> str:
    """What somebody wrote, for an error message: as much of it as one can take in."""
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"


def _nearest(name: str, known: set[str]) -> str:
    spellings = {*known, *_CANONICAL, *UNFOLDED}
    near = difflib.get_close_matches(name[:_SHOWN_CHARACTERS].lower(), spellings, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(sorted(known))}"
