"""``POST /v1/images/edits``: a form with pictures in it."""

import asyncio
import base64
import json
from typing import Final

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from stablediffusiond.errors import InvalidRequest
from stablediffusiond.messages.values import Body

_PICTURES: Final = ("image", "image[]")
_MOST_PARTS: Final = 64


async def read_form(request: Request) -> tuple[Body, bytes]:
    """The fields, pictures in base64, and bytes that are the same for the same form, whatever its boundary.

    Raises:
        InvalidRequest: it is no form, or has not the one picture that is edited.
    """
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise InvalidRequest("send a form, multipart/form-data, with the file of a picture as 'image'")
    fields: Body = {}
    pictures: list[bytes] = []
    try:
        async with request.form(max_files=_MOST_PARTS, max_fields=_MOST_PARTS) as form:
            for name, value in form.multi_items():
                if not isinstance(value, UploadFile):
                    fields[name] = value
                elif name in _PICTURES:
                    pictures.append(await value.read())
                else:
                    fields[name] = base64.b64encode(await value.read()).decode()
    except HTTPException as error:
        raise InvalidRequest(f"the form cannot be read: {error.detail}") from None
    if len(pictures) != 1:
        raise InvalidRequest(f"'image' must be the file of one picture; here are {len(pictures)}", field="image")
    return await asyncio.to_thread(_with_masks, fields, pictures[0])


def _with_masks(fields: Body, image: bytes) -> tuple[Body, bytes]:
    """OpenAI's masks are transparent where a part is drawn anew; ours are white."""
    # Pillow is loaded by the first edit, and not by who never edits.
    from stablediffusiond.pictures.alpha import mask_of  # noqa: PLC0415

    made: Body = {**fields, "image": base64.b64encode(image).decode()}
    given = fields.get("mask")
    if given is None:
        mask = mask_of(image)
    elif (mask := mask_of(base64.b64decode(str(given)))) is None:
        raise InvalidRequest("'mask' must be transparent where a part is to be drawn anew; it is nowhere", field="mask")
    if mask is not None:
        made["mask"] = base64.b64encode(mask).decode()
    return made, json.dumps(made, sort_keys=True).encode()
