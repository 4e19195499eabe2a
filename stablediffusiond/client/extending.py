"""Outpainting: a picture on a larger canvas, whose new parts are transparent and so the mask of what is to be drawn."""

import io
from collections.abc import Mapping
from typing import Final

from PIL import Image

from stablediffusiond.errors import InvalidRequest
from stablediffusiond.messages.values import Body, shown
from stablediffusiond.pictures.opening import open_at
from stablediffusiond.pictures.sizes import MULTIPLE, SMALLEST, as_it_is

SIDES: Final = ("left", "top", "right", "bottom")
#: What is right for most pictures: new parts begin with the colours beside them, and end softly.
_DEFAULTS: Final[Body] = {"mask_from_alpha": True, "mask_fill": "neighbours", "mask_blur": 8, "strength": 0.9}


def extended(image: bytes, sides: Mapping[str, int]) -> Body:
    """The fields of a request that draws the picture in ``image`` on, by so many pixels at each of ``sides``.

    Raises:
        InvalidRequest, TooLarge: the picture cannot be opened, or has no such side.
    """
    for side, pixels in sides.items():
        if side not in SIDES or not 0 <= pixels <= 4096:
            said = f"must be one of {', '.join(SIDES)}, and 0 to 4096 pixels, not {side}={pixels}"
            raise InvalidRequest(f"'extend' {said}", field="extend")
    left, top, right, bottom = (sides.get(side, 0) for side in SIDES)
    picture = open_at(image, lambda size: as_it_is(size, "at most {most} can be drawn on"))
    size = picture.width + left + right, picture.height + top + bottom
    canvas = Image.new("RGBA", size)
    canvas.paste(picture, (left, top))
    out = io.BytesIO()
    canvas.save(out, "PNG")
    width, height = (max(round(each / MULTIPLE) * MULTIPLE, SMALLEST) for each in size)
    return {**_DEFAULTS, "image": out.getvalue(), "width": width, "height": height}


def read_sides(texts: tuple[str, ...]) -> dict[str, int]:
    """``left=128`` and the like as numbers.

    Raises:
        InvalidRequest: a text is no such thing.
    """
    sides: dict[str, int] = {}
    for part in ",".join(texts).split(","):
        side, _, pixels = part.partition("=")
        if not pixels.strip().isdecimal():
            raise InvalidRequest(f"'extend' must be like left=128, not {shown(part)}", field="extend")
        sides[side.strip()] = int(pixels)
    return sides
