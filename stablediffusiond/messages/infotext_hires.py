"""A1111's keys for a second pass and for an upscale, and what they mean here."""

import re
from collections.abc import Mapping
from typing import Final

from stablediffusiond.errors import InvalidRequest
from stablediffusiond.messages.hires import Hires
from stablediffusiond.messages.hires import read as read_hires
from stablediffusiond.messages.request import Request
from stablediffusiond.messages.values import Body, shortest, shown

_STRENGTH: Final = "Denoising strength"
#: Key -> field of ``hires``.
_FIELDS: Final = {
    "Hires upscale": "scale", "Hires steps": "steps", "Hires upscaler": "upscaler", "Hires sampler": "sampler",
    "Hires CFG Scale": "guidance_scale",  # Forge's
}  # fmt: skip


def write(hires: Hires) -> dict[str, str | None]:
    """The denoising strength stands elsewhere, where that of img2img does."""
    sized = hires.width is not None or hires.height is not None
    return {
        "Hires sampler": hires.sampler,
        "Hires upscale": None if sized else shortest(hires.scale),
        "Hires steps": None if hires.steps is None else str(hires.steps),
        "Hires resize": f"{hires.width or 0}x{hires.height or 0}" if sized else None,
        "Hires upscaler": hires.upscaler,
        "Hires CFG Scale": None if hires.guidance_scale is None else shortest(hires.guidance_scale),
    }


def of_upscale(request: Request) -> Mapping[str, str]:
    return {"Postprocess upscale by": shortest(request.upscale_by), "Postprocess upscaler": str(request.upscaler)}


def read(rest: dict[str, str], not_taken: list[str]) -> Body:
    """What ``rest`` says of a second pass as the field ``hires``; its keys are taken out, and those not taken named."""
    said = {key: value for key, value in rest.items() if key in _FIELDS or key == "Hires resize"}
    if not said:
        return {}
    for key in said:
        del rest[key]
    hires: Body = {_FIELDS[key]: value for key, value in said.items() if key in _FIELDS}
    if _STRENGTH in rest:
        hires["strength"] = rest.pop(_STRENGTH)
    if sides := re.fullmatch(r"(\d{1,6})x(\d{1,6})", said.get("Hires resize", "")):
        hires |= {name: int(side) for name, side in zip(("width", "height"), sides.groups(), strict=True) if int(side)}
    kept: Body = {}
    for name, value in hires.items():
        try:
            read_hires({name: value})
        except InvalidRequest:
            not_taken.append(f"{name} of a second pass ({shown(value)})")
        else:
            kept[name] = value
    return {"hires": kept} if kept else {}
