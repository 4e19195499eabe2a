"""A request like the one that a picture's file says it was drawn with: ours, or A1111's ``parameters`` text.

As with images, only the program that runs this opens files; what they say is anybody's.
"""

import os
from collections.abc import Mapping
from typing import Final, Protocol, runtime_checkable

from stablediffusiond.errors import InvalidRequest, JobError
from stablediffusiond.messages import infotext_fields
from stablediffusiond.messages.aliases import canonical
from stablediffusiond.messages.drawn_request import PICTURES, Said, from_json, hash_of
from stablediffusiond.messages.picture_use import GUIDES
from stablediffusiond.messages.request import Request
from stablediffusiond.messages.values import Body, is_true, shown

#: A picture of 65 million pixels, the most that is opened, has fewer.
_MOST_BYTES: Final = 256 * 1024 * 1024


@runtime_checkable
class _Readable(Protocol):
    def read(self, size: int, /) -> object: ...


def request(file: object, own: Mapping[str, object]) -> tuple[Request, list[str]]:
    """The request that ``file`` (a path, an open file, or bytes) says, but for the fields in ``own``; and the warnings.

    Raises:
        InvalidRequest: the file says nothing that can be drawn, or not without the image that it was drawn after.
        TooLarge, OutOfMemory: it cannot be opened.
    """
    name = f"'{os.fspath(file)}'" if isinstance(file, str | os.PathLike) else "'like'"
    try:
        said = _said(_bytes(file, name))
    except JobError as error:
        whole = str(error).replace("'image'", name).replace("the image", name)
        raise type(error)(whole if name in whole else f"{name}: {whole}", field="like") from None
    asked = canonical(dict(own), Request.model_fields)
    for picture in PICTURES:
        if picture in said.hashes and picture not in asked.fields:
            which = f"the {picture} that it was drawn after ({said.hashes[picture]}), which is not in it"
            raise InvalidRequest(f"{name}: give {which}", field=picture)
    not_taken = list(said.not_taken)
    #: What is left empty beside it leaves the choice to the service.
    taken = {name: value for name, value in said.fields.items() if name in asked.fields or own.get(name) != ""}
    not_taken += _without_what_is_not_there(taken, asked.fields)
    if asked.fields.get("format", taken.get("format")) != taken.get("format"):
        taken.pop("quality", None)
    made, warnings = Request.from_fields({**taken, **asked.fields})
    if not_taken:
        warnings.insert(0, f"of {name} this is not taken: {', '.join(not_taken)}")
    for picture in PICTURES:
        data = getattr(made, picture)
        if picture in said.hashes and data is not None and hash_of(data) != said.hashes[picture]:
            warnings.append(f"{name} was drawn after another {picture}")
    return made, [*asked.warnings, *warnings]


def _without_what_is_not_there(taken: Body, asked: Body) -> list[str]:
    """Drop from ``taken`` what is about an image or a mask that does not come with the new request; name it."""
    if "mask" in asked:
        taken.pop("mask_from_alpha", None)
    masked = "mask" in asked or is_true({**taken, **asked}.get("mask_from_alpha"))
    of_image = ["strength"] if "image" not in asked else []
    of_mask = [name for name in taken if name.startswith("mask_")] if not masked else []
    dropped = {name: f"{name} (it needs an image)" for name in of_image if name in taken}
    dropped |= {name: f"{name} (it needs a mask)" for name in of_mask}
    for name in dropped:
        del taken[name]
    for name, kind in GUIDES.items():
        if name in taken and name not in asked:
            taken[name] = _of_the_same_image(taken[name], kind.split(" ")[1], dropped)
    return list(dropped.values())


def _of_the_same_image(uses: object, kind: str, dropped: dict[str, str]) -> list[object]:
    """Those that go by the request's own image; of another one the file has no more than the hash."""
    kept: list[object] = []
    for use in uses if isinstance(uses, list) else [uses]:
        if isinstance(use, dict) and "image" in use:
            named = f"the {kind} {shown(use.get('model', use.get('name')))}"
            dropped[named] = f"{named}, whose image is not in it"
        else:
            kept.append(use)
    return kept


def _bytes(file: object, name: str) -> bytes:
    if isinstance(file, bytes | bytearray | memoryview):
        return bytes(file)
    if isinstance(file, _Readable):
        data = file.read(_MOST_BYTES + 1)
    elif isinstance(file, str | os.PathLike):
        try:
            with open(file, "rb") as opened:
                data = opened.read(_MOST_BYTES + 1)
        except (OSError, ValueError) as error:
            raise InvalidRequest(f"{name} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    else:
        raise InvalidRequest("'like' must be a path, a file that is open for reading, or the bytes of a file")
    if not isinstance(data, bytes):
        raise InvalidRequest(f'{name}: open the file in binary mode, as "rb"')
    if len(data) > _MOST_BYTES:
        raise InvalidRequest(f"{name} has more than {_MOST_BYTES} bytes")
    return data


def _said(data: bytes) -> Said:
    from stablediffusiond.pictures import metadata  # noqa: PLC0415 (a program that reads no file need not wait for Pillow)

    found = metadata.read(data)
    return from_json(found.request) if found.request else infotext_fields.read(found.parameters)
