"""Between a request and the parameters of A1111's text: which of its keys stands for which field."""

import re
from typing import Final

from pydantic import ValidationError

from stablediffusiond import samplers
from stablediffusiond.errors import InvalidRequest
from stablediffusiond.messages import infotext, infotext_hires, seeds
from stablediffusiond.messages.complete_request import CompleteRequest
from stablediffusiond.messages.controls import ControlUse
from stablediffusiond.messages.drawn_request import Said
from stablediffusiond.messages.infotext import Infotext
from stablediffusiond.messages.loras import as_tags
from stablediffusiond.messages.names import file_name
from stablediffusiond.messages.replies import ImageFacts
from stablediffusiond.messages.request import Request
from stablediffusiond.messages.values import Body, shortest, shown

#: Key -> field, where the value is taken as it is.
_FIELDS: Final = {
    "Steps": "steps", "CFG scale": "guidance_scale", "Seed": "seed", "Model": "model", "VAE": "vae",
    "Variation seed": "subseed",
    "Variation seed strength": "subseed_strength", "Denoising strength": "strength", "Clip skip": "clip_skip",
    "Tiling": "tiling", "Mask blur": "mask_blur", "Eta DDIM": "eta",
    "CFG Rescale": "guidance_rescale",  # an extension's: https://github.com/Seshelle/CFG_Rescale_webui
}  # fmt: skip
#: Key -> field, and what each of its words means there.
_WORDS: Final[dict[str, tuple[str, dict[str, object]]]] = {
    "Mask mode": ("mask_invert", {"Inpaint not masked": True, "Inpaint masked": False}),
    "Masked content": (
        "mask_fill", {"original": "original", "fill": "neighbours", "latent noise": "noise", "latent nothing": "plain"}
    ),
}  # fmt: skip
_ONLY_MASKED: Final = "Only masked"
_DEFAULT_PADDING: Final = "32"
#: Ours -> A1111's label.
_SCHEDULE_LABELS: Final = {"DDIM Uniform": "DDIM"}
_MODEL_S_OWN: Final = "Automatic"
_SHOWN_KEYS: Final = 30
_SHOWN_CHARACTERS: Final = 30


def write(request: CompleteRequest, facts: ImageFacts) -> str:
    """The text of one picture. LoRAs of the field stand behind the prompt, where A1111 looks for them."""
    if request.type == "upscale":
        return infotext.write(Infotext(request.prompt, request.negative_prompt, infotext_hires.of_upscale(request)))
    prompt, negative = request.prompt, request.negative_prompt
    if request.prompt_syntax == "plain":
        prompt, negative = _escaped(prompt), _escaped(negative)
    sampler, schedule = _sampler(request, facts)
    parameters: dict[str, str | None] = {
        "Steps": str(facts.steps),
        "Sampler": sampler,
        "Schedule type": schedule,
        "CFG scale": shortest(facts.guidance_scale),
        "Seed": str(facts.seed),
        "Size": f"{facts.first_width or facts.width}x{facts.first_height or facts.height}",
        **_controls(request),
        "Model": file_name(facts.model),
        "VAE": request.vae,
        "Variation seed": None if facts.subseed is None else str(facts.subseed),
        "Variation seed strength": _number(facts.subseed_strength),
        "Denoising strength": _number(facts.strength if request.hires is None else request.hires.strength),
        "Clip skip": str(request.clip_skip) if request.clip_skip and request.clip_skip > 1 else None,
        "RNG": "CPU",
        "Tiling": "True" if request.tiling else None,
        **(_mask(request) if request.masked else {}),
        **(infotext_hires.write(request.hires) if request.hires is not None else {}),
        "Eta DDIM": _number(request.eta or None),
        "CFG Rescale": _number(request.guidance_rescale or None),
    }
    said = {key: value for key, value in parameters.items() if value is not None}
    return infotext.write(Infotext(prompt + as_tags(request.loras), negative, said))


def read(text: str) -> Said:
    """What ``text`` says that a request has a field for; what else it says is named.

    Raises:
        InvalidRequest: it has no parameters.
    """
    found = infotext.read(text)
    if not found.parameters:
        raise InvalidRequest("it does not say how it was drawn")
    rest = dict(found.parameters)
    fields: Body = {"prompt": found.prompt, "negative_prompt": found.negative_prompt}
    not_taken: list[str] = []
    fields |= _read_sampler(rest, not_taken)
    fields |= _read_size(rest, not_taken)
    fields |= _read_mask(rest, not_taken)
    if rest.get("RNG") == "CPU":
        del rest["RNG"]
    else:
        not_taken.append(f"RNG ({rest.pop('RNG', 'GPU')}: the same seed gives another picture here)")
    fields |= infotext_hires.read(rest, not_taken)
    for key, name in _FIELDS.items():
        if key in rest:
            fields |= _checked(name, rest.pop(key), key, not_taken)
    others = [key[:_SHOWN_CHARACTERS] for key in rest]
    if len(others) > _SHOWN_KEYS:
        others = [*others[:_SHOWN_KEYS], f"and {len(others) - _SHOWN_KEYS} more"]
    return Said(fields, [*not_taken, *others])


def _number(number: float | None) -> str | None:
    return None if number is None else shortest(number)


def _controls(request: CompleteRequest) -> dict[str, str]:
    """Before ``Model``: readers that take quotation marks for letters take the last one that they find."""
    units = [
        f"Module: {use.preprocessor or 'none'}, Model: {use.model}, Weight: {shortest(use.scale)}, {_thresholds(use)}"
        f"Guidance Start: {shortest(use.start)}, Guidance End: {shortest(use.end)}, Control Mode: Balanced"
        for use in request.control
    ]
    units += [
        f"Module: ip-adapter-auto, Model: {use.name}, Weight: {shortest(use.scale)}" for use in request.ip_adapter
    ]
    return {f"ControlNet {place}": unit for place, unit in enumerate(units)}


def _thresholds(use: ControlUse) -> str:
    return "".join(f"Threshold {key}: {shortest(number)}, " for key, number in zip("AB", use.numbers, strict=False))


def _mask(request: CompleteRequest) -> dict[str, str | None]:
    """What differs from a mask as it is."""
    values: dict[str, object] = {"Mask blur": _number(request.mask_blur or None)}
    for key, (name, words) in _WORDS.items():
        word = next(word for word, meaning in words.items() if meaning == getattr(request, name))
        values[key] = None if getattr(request, name) == Request.model_fields[name].default else word
    if request.mask_padding is not None:
        values |= {"Inpaint area": _ONLY_MASKED, "Masked area padding": request.mask_padding}
    return {key: None if value is None else str(value) for key, value in values.items()}


def _escaped(prompt: str) -> str:
    """With brackets that are letters, as those of a plain prompt are."""
    return re.sub(r"([\\()\[\]])", r"\\\1", prompt)


def _sampler(request: CompleteRequest, facts: ImageFacts) -> tuple[str, str]:
    """Its name and its schedule: as asked for, else what the model has of its own."""
    try:
        sampler = request.chosen_sampler() or samplers.find(facts.sampler)
    except InvalidRequest:
        sampler = None
    if sampler is None:  # a scheduler that has no name but its class's
        return facts.sampler, _MODEL_S_OWN
    schedule = sampler.schedule or _MODEL_S_OWN
    return sampler.name, _SCHEDULE_LABELS.get(schedule, schedule)


def _read_sampler(rest: dict[str, str], not_taken: list[str]) -> Body:
    """The sampler with its schedule; without it, where it is not done here."""
    name, schedule = rest.pop("Sampler", ""), rest.pop("Schedule type", None)
    sampler = None
    for key, value, spacing in (("Sampler", name, None), ("Schedule type", schedule, schedule)):
        try:
            sampler = samplers.find(name, spacing) if value else sampler
        except InvalidRequest as error:
            why = str(error).split(";")[0] if len(value or "") < _SHOWN_CHARACTERS else shown(value)
            not_taken.append(f"{key} ({why})")
            if key == "Sampler":
                break
    if sampler is None:
        return {}
    if sampler.name == "DDIM" and "Eta" in rest:
        rest.setdefault("Eta DDIM", rest.pop("Eta"))  # as it was called before it had two names
    return {"sampler": str(sampler)}


def _read_size(rest: dict[str, str], not_taken: list[str]) -> Body:
    size = rest.pop("Size", None)
    if size is None:
        return {}
    sides = re.fullmatch(r"(\d{1,6})x(\d{1,6})", size)
    refused: list[str] = []
    fields: Body = {}
    for name, side in zip(("width", "height"), sides.groups() if sides else (), strict=False):
        fields |= _checked(name, side, "Size", refused)
    if len(fields) == 2:
        return fields
    not_taken.append(f"Size ({shown(size)})")
    return {}


def _read_mask(rest: dict[str, str], not_taken: list[str]) -> Body:
    fields: Body = {}
    for key, (name, words) in _WORDS.items():
        word = rest.get(key)
        if word is not None and word in words:
            fields[name] = words[rest.pop(key)]
    area, padding = rest.pop("Inpaint area", None), rest.pop("Masked area padding", _DEFAULT_PADDING)
    if area == _ONLY_MASKED:
        fields |= _checked("mask_padding", padding, "Masked area padding", not_taken)
    return fields


def _checked(name: str, value: str, key: str, not_taken: list[str]) -> Body:
    """The field, if a request takes ``value`` for it."""
    try:
        if name in {"seed", "subseed"}:
            seeds.read(value, name)
        else:
            Request.model_validate({"prompt": "", name: value})
    except (ValidationError, InvalidRequest):
        not_taken.append(f"{key} ({shown(value)})")
        return {}
    return {name: value}
