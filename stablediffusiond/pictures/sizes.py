"""The size at which a picture is drawn anew: its own proportions, where the request leaves that open."""

import math
from typing import Final

from stablediffusiond.errors import TooLarge

Size = tuple[int, int]  #: width and height in pixels

#: What a request may ask for, too: latents are an eighth of a picture, and models have seen none that are tiny.
MULTIPLE: Final = 8
SMALLEST: Final = 64
LARGEST: Final = 16_384
#: Of a picture that is sent back whole, or drawn on.
_MOST_WHOLE_PIXELS: Final = 16_777_216


def in_proportion(picture: Size, own: Size, width: int | None = None, height: int | None = None) -> Size:
    """The proportions of ``picture``, at ``width`` or ``height``; with neither, at about as many pixels as ``own`` has.

    With both, those: the picture is squeezed into them. Never more pixels than ``own``, unless they were asked for.
    """
    if width and height:
        return width, height
    aspect = picture[0] / picture[1]
    if width:
        return width, _rounded(width / aspect)
    if height:
        return _rounded(height * aspect), height
    pixels = own[0] * own[1]
    made = _rounded(math.sqrt(pixels * aspect)), _rounded(math.sqrt(pixels / aspect))
    if made[0] * made[1] <= pixels:
        return made
    return _floored(math.sqrt(pixels * aspect), pixels), _floored(math.sqrt(pixels / aspect), pixels)


def at_most(picture: Size, pixels: int) -> Size:
    """The size of ``picture``, or one with its proportions and so many ``pixels``."""
    scale = math.sqrt(pixels / (picture[0] * picture[1]))
    return picture if scale >= 1 else (max(int(picture[0] * scale), 1), max(int(picture[1] * scale), 1))


def as_it_is(picture: Size, limit: str) -> Size:
    """The size of a picture that is kept whole.

    Raises:
        TooLarge: it has more pixels than that; ``limit`` says so, with ``{most}`` where the number stands.
    """
    if picture[0] * picture[1] > _MOST_WHOLE_PIXELS:
        said = f"'image' has {picture[0]}x{picture[1]} pixels; {limit.format(most=_MOST_WHOLE_PIXELS)}"
        raise TooLarge(said, field="image")
    return picture


def _rounded(side: float) -> int:
    return min(max(round(side / MULTIPLE) * MULTIPLE, SMALLEST), LARGEST)


def _floored(side: float, pixels: int) -> int:
    """At least the smallest side, and then no longer than leaves the other one that."""
    most = max(pixels // SMALLEST // MULTIPLE * MULTIPLE, SMALLEST)
    return min(max(int(side) // MULTIPLE * MULTIPLE, SMALLEST), most)
