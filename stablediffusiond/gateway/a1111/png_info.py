"""``/sdapi/v1/png-info``: what a picture's file says of how it was drawn."""

import asyncio
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from stablediffusiond.errors import InvalidRequest
from stablediffusiond.gateway import bodies
from stablediffusiond.messages import infotext, picture_text


async def png_info(request: Request) -> Response:
    fields, _ = await bodies.read(request, "a1111")
    return JSONResponse(await asyncio.to_thread(_read, fields.get("image")))


def _read(value: object) -> dict[str, Any]:
    """Raises InvalidRequest for what is no picture; one that says nothing has an empty ``info``, as in A1111."""
    from stablediffusiond.pictures import metadata, opening  # noqa: PLC0415 (Pillow, which most gateways never need)

    try:
        data = picture_text.read(value)
        if not isinstance(data, bytes):
            raise ValueError("must be a picture in base64")  # noqa: TRY004, TRY301 (as picture_text says it)
    except ValueError as error:
        raise InvalidRequest(f"'image' {error}", field="image") from None
    with opening.opened(data):
        pass  # it is a picture
    try:
        text = metadata.read(data).parameters
    except InvalidRequest:
        text = ""
    found = infotext.read(text) if text else None
    said = {} if found is None else {"Prompt": found.prompt, "Negative prompt": found.negative_prompt}
    return {
        "info": text,
        "items": {"parameters": text} if text else {},
        "parameters": {**said, **(found.parameters if found is not None else {})},
    }


ROUTES: Final = [Route("/sdapi/v1/png-info", png_info, methods=["POST"])]
