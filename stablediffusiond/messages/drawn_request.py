"""The request of one picture as its file carries it: all that is needed to draw that picture again, alone, as JSON.

Image k of a job has its own seed in it. What is of the job and not of the picture (its id, its priority) is left out,
and of pictures that came with the request there is the SHA-256: so the same request gives the same bytes.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from stablediffusiond.errors import InvalidRequest, UnreadableMessage
from stablediffusiond.messages.body import parse
from stablediffusiond.messages.complete_request import CompleteRequest
from stablediffusiond.messages.names import file_name
from stablediffusiond.messages.picture_use import GUIDES, PictureUse
from stablediffusiond.messages.replies import ImageFacts
from stablediffusiond.messages.request import Request
from stablediffusiond.messages.values import Body, shown

PICTURES: Final = ("image", "mask")
_OF_THE_JOB: Final = frozenset({"id", "count", "preview_every", "priority", "deadline_seconds"})
#: The type follows from the pictures that are given.
_TAKEN: Final = frozenset(Request.model_fields) - _OF_THE_JOB - {"type", *PICTURES}
#: What a request may leave to the model, and what was drawn.
_DRAWN: Final = frozenset({"seed", "subseed", "width", "height", "steps", "guidance_scale"})
_HASH: Final = "sha256:"


@dataclass(frozen=True)
class Said:
    """What a file says of the request that drew it."""

    fields: Body
    not_taken: list[str] = field(default_factory=list)  #: in words, by the names that the file has for it
    hashes: Mapping[str, str] = field(default_factory=dict)  #: of the pictures that it was drawn after


def to_json(request: CompleteRequest, facts: ImageFacts) -> str:
    left_out = {*_OF_THE_JOB, *PICTURES, *GUIDES}
    fields = request.model_dump(mode="json", exclude_defaults=True, exclude=left_out)
    fields |= facts.model_dump(include=set(_DRAWN), exclude_none=True) | {"model": file_name(facts.model)}
    if request.hires is not None:
        fields |= {"width": facts.first_width, "height": facts.first_height}
    if request.type == "upscale":
        fields = {name: value for name, value in fields.items() if name not in _DRAWN}
    fields |= {name: [_with_hash(use) for use in uses] for name in GUIDES if (uses := getattr(request, name))}
    fields |= {name: hash_of(data) for name in PICTURES if (data := getattr(request, name)) is not None}
    return json.dumps(fields, ensure_ascii=False, sort_keys=True)


def from_json(text: str) -> Said:
    """What ``to_json`` has written, perhaps of another version, perhaps changed by anybody.

    Raises:
        InvalidRequest: it is no object of JSON.
    """
    try:
        fields = parse(text.encode(errors="surrogatepass"))
    except UnreadableMessage as error:
        raise InvalidRequest(f"the request in it cannot be read: {error}") from None
    hashes = {name: str(fields[name])[:100] for name in PICTURES if fields.get(name) is not None}
    unknown = fields.keys() - _TAKEN - {"type", *PICTURES}
    not_taken = [shown(name) for name in fields if name in unknown]
    taken = {name: value for name, value in fields.items() if name in _TAKEN}
    if fields.get("type") == "upscale":  # which follows from no picture
        taken["type"] = "upscale"
    return Said(taken, not_taken, hashes)


def _with_hash(use: PictureUse) -> Body:
    image = {} if use.image is None else {"image": hash_of(use.image)}
    return {**use.to_fields(), **image}


def hash_of(picture: bytes) -> str:
    return _HASH + hashlib.sha256(picture).hexdigest()
