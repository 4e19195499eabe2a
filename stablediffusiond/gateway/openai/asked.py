"""What a client of OpenAI's asks for: its fields, as ours. Ours may stand beside them (``seed``, ``steps`` …)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from stablediffusiond.errors import InvalidRequest
from stablediffusiond.messages.values import Body, is_true, shown

ResponseFormat = Literal["b64_json", "url"]

#: They change nothing in a picture that is drawn here.
_IGNORED: Final = frozenset({"moderation", "safety_identifier", "style", "user", "input_fidelity", "complexity"})
#: Names that clients send for want of another, which no service of one's own has.
_OPENAI_S_MODELS: Final = re.compile(r"(dall-e|gpt-image|chatgpt-image)")
_SIZE: Final = re.compile(r"(\d{1,5})x(\d{1,5})")
_MOST_PARTIAL_IMAGES: Final = 3


@dataclass
class Asked:
    """``fields`` are for our own request; the rest says how to answer."""

    fields: Body
    response_format: ResponseFormat = "b64_json"
    stream: bool = False
    partial_images: int = 0
    warnings: list[str] = field(default_factory=list)


def names_model_of_openai(fields: Mapping[str, object]) -> bool:
    return _OPENAI_S_MODELS.match(str(fields.get("model", ""))) is not None


def read(body: Mapping[str, object], models: list[str]) -> Asked:
    """``models`` are the names that the service has; they count only beside one of OpenAI's.

    Raises:
        InvalidRequest: a field of OpenAI's asks for what is not done here.
    """
    fields = {name: value for name, value in body.items() if value is not None}
    asked = Asked(fields, stream=is_true(fields.pop("stream", False)))
    asked.response_format = _response_format(fields)
    asked.partial_images = _partial_images(fields.pop("partial_images", 0))
    for name in _IGNORED & fields.keys():
        del fields[name]
        asked.warnings.append(f"{name!r} is ignored")
    _move_size(fields)
    if str(fields.pop("background", "auto")) == "transparent":
        raise InvalidRequest("a picture that is drawn here has no transparent parts", field="background")
    # Of jpeg and webp; ours go from 1.
    if (compression := fields.pop("output_compression", None)) is not None:
        fields["quality"] = 1 if str(compression) == "0" else compression
    elif isinstance(fields.get("quality"), str) and not str(fields["quality"]).isdecimal():
        asked.warnings.append(f"'quality' {shown(fields.pop('quality'))} is ignored: 'steps' says how carefully")
    model = str(fields.get("model", ""))
    if names_model_of_openai(fields) and model not in models:
        del fields["model"]
        asked.warnings.append(f"{shown(model)} is OpenAI's: the service's own model draws")
    return asked


def _response_format(fields: Body) -> ResponseFormat:
    value = fields.pop("response_format", "b64_json")
    if value == "url":
        return "url"
    if value != "b64_json":
        raise InvalidRequest("'response_format' must be b64_json or url", field="response_format")
    return "b64_json"


def _partial_images(value: object) -> int:
    if not str(value).isdecimal() or int(str(value)) > _MOST_PARTIAL_IMAGES:
        message = f"'partial_images' must be 0 to {_MOST_PARTIAL_IMAGES}, not {shown(value)}"
        raise InvalidRequest(message, field="partial_images")
    return int(str(value))


def _move_size(fields: Body) -> None:
    """``auto`` leaves it to the model."""
    size = str(fields.pop("size", "auto"))
    if size == "auto":
        return
    if (sides := _SIZE.fullmatch(size)) is None:
        raise InvalidRequest(f"'size' must be as 1024x1024, or auto, not {shown(size)}", field="size")
    fields["width"], fields["height"] = (int(side) for side in sides.groups())
