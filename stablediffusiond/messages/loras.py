"""LoRAs that a request asks for: in its prompt, as A1111 writes them, or in a field of their own.

``<lora:name:0.8>`` weighs text encoders and denoiser alike, ``<lora:name:0.5:0.8>`` and ``<lora:name:te=0.5:unet=0.8>``
each by its own number. As a field, the spellings of AI Horde, stable-diffusion.cpp, ComfyUI and diffusers are taken.
"""

import re
from collections.abc import Iterable
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from stablediffusiond.errors import InvalidRequest
from stablediffusiond.messages.names import file_name
from stablediffusiond.messages.spellings import by_field
from stablediffusiond.messages.values import Body, asks_for_nothing, shortest, shown

Scale = Annotated[float, Field(ge=-10, le=10, allow_inf_nan=False)]

#: Field -> what others call it.
_SPELLINGS: Final = {
    "name": ("name", "path", "lora_name", "model_name", "adapter_name"),
    "scale": ("scale", "multiplier", "weight", "strength", "strength_model", "model"),
    "text_encoder_scale": ("text_encoder_scale", "clip", "strength_clip", "te"),
}
#: Fields of AI Horde and stable-diffusion.cpp that change nothing here, as long as they ask for nothing.
_ASK_FOR_NOTHING: Final = frozenset({"is_version", "inject_trigger", "is_high_noise"})
_TAG: Final = re.compile(r"<(?P<kind>lora|lyco|locon|hypernet):(?P<arguments>[^<>]*)>", re.IGNORECASE)


class LoraUse(BaseModel):
    """One LoRA of one request."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(min_length=1, max_length=200)] = Field(description="A file's name, without its suffix")
    scale: Scale = Field(1.0, description="How much of it is added to the denoiser; 1 is as it was trained")
    text_encoder_scale: Scale | None = Field(None, description="To the text encoders; default: as much")

    @property
    def for_text_encoders(self) -> float:
        return self.scale if self.text_encoder_scale is None else self.text_encoder_scale


def in_prompt(prompt: str) -> list[LoraUse]:
    """The LoRAs that stand in ``prompt``.

    Raises:
        InvalidRequest: a weight is no number, or the prompt asks for a hypernetwork.
    """
    return [_from_tag(tag) for tag in _TAG.finditer(prompt)]


def without_tags(prompt: str) -> str:
    """``prompt`` as the model reads it."""
    return _TAG.sub("", prompt)


def as_tags(uses: Iterable[LoraUse]) -> str:
    """``uses`` as they stand in a prompt."""
    return "".join(
        f"<lora:{use.name}:{shortest(use.scale)}>"
        if use.for_text_encoders == use.scale
        else f"<lora:{use.name}:{shortest(use.for_text_encoders)}:{shortest(use.scale)}>"
        for use in uses
    )


def read(value: object, field: str = "loras") -> tuple[LoraUse, ...]:
    """A request's list of LoRAs; one alone may come without a list, and several as the tags of a prompt.

    Raises:
        InvalidRequest: it is none.
    """
    if isinstance(value, str) and value.startswith("<"):
        return tuple(in_prompt(value))
    given = value if isinstance(value, list | tuple) else [value]
    return tuple(each if isinstance(each, LoraUse) else _from_field(each, field) for each in given)


def _from_tag(tag: re.Match[str]) -> LoraUse:
    if tag["kind"].lower() == "hypernet":
        raise InvalidRequest(f"{shown(tag[0])}: hypernetworks are not applied here, only LoRAs", field="prompt")
    name, *rest = (part.strip() for part in tag["arguments"].split(":"))
    plain = [part for part in rest if "=" not in part]
    named = dict(part.split("=", 1) for part in rest if "=" in part)
    text_encoder = named.get("te", plain[0] if plain else "1")
    denoiser = named.get("unet", plain[1] if len(plain) > 1 else text_encoder)
    both = {"scale": denoiser} if denoiser == text_encoder else {"scale": denoiser, "text_encoder_scale": text_encoder}
    return _checked({"name": name, **both}, "prompt")


def _from_field(value: object, field: str) -> LoraUse:
    if isinstance(value, str):
        name, _, scale = value.rpartition("=" if "=" in value else ":")
        return _checked({"name": name, "scale": scale} if name else {"name": value}, field)
    if not isinstance(value, dict):
        raise InvalidRequest(f"{field!r} must be a list like [{{'name': 'ink', 'scale': 0.8}}]", field=field)
    fields = {name: each for name, each in value.items() if each is not None}
    for name in _ASK_FOR_NOTHING & fields.keys():
        if not asks_for_nothing(fields.pop(name)):
            raise InvalidRequest(f"{name!r} of {field!r} asks for something that is not done here", field=field)
    return _checked(by_field(fields, _SPELLINGS, field), field)


def _checked(use: Body, field: str) -> LoraUse:
    """``use``, its file named as here: without folders and suffix."""
    name = use.get("name")
    if not isinstance(name, str) or not name.strip():
        raise InvalidRequest(f"a LoRA of {field!r} has no name", field=field)
    try:
        return LoraUse.model_validate({**use, "name": file_name(name)})
    except ValueError:
        said = "its scales must be numbers from -10 to 10, and its name at most 200 letters"
        raise InvalidRequest(f"the LoRA {shown(name)} of {field!r}: {said}", field=field) from None
