"""The mask of an inpainting job: its edge, what lies under it before it is drawn, and the part that alone is drawn."""

import random
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageFilter

from stablediffusiond.errors import InvalidRequest

Size = tuple[int, int]  #: width and height in pixels
Box = tuple[int, int, int, int]  #: left, upper, right, lower

_GREY: Final = (128, 128, 128)


@dataclass(frozen=True)
class Overlay:
    """What a drawn picture lies on: outside the mask, ``picture`` comes back as it was, byte for byte."""

    picture: Image.Image  #: RGB
    mask: Image.Image  #: L, of its size; white is drawn anew
    box: Box  #: the part that was drawn

    def under(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """``pixels``, (H, W, 3), of what was drawn, on the picture."""
        drawn, size = Image.fromarray(pixels), (self.box[2] - self.box[0], self.box[3] - self.box[1])
        if drawn.size != size:
            drawn = drawn.resize(size, Image.Resampling.LANCZOS)
        whole = self.picture.copy()
        whole.paste(drawn, self.box[:2], self.mask.crop(self.box))
        return np.asarray(whole)


def with_edge(mask: Image.Image, *, invert: bool, blur: float) -> Image.Image:
    """``mask``, L, with an edge that is ``blur`` pixels soft."""
    turned = ImageChops.invert(mask) if invert else mask
    return turned.filter(ImageFilter.GaussianBlur(blur)) if blur else turned


def box_around(mask: Image.Image, padding: int) -> Box:
    """The smallest part of the picture that has all of the mask and ``padding`` pixels around it.

    Raises:
        InvalidRequest: there is nothing white in it.
    """
    found = mask.getbbox()
    if found is None:
        raise InvalidRequest("'mask' has nothing white, where a part is to be drawn anew", field="mask")
    left, upper, right, lower = found
    width, height = mask.size
    return max(left - padding, 0), max(upper - padding, 0), min(right + padding, width), min(lower + padding, height)


def in_shape(box: Box, shape: Size, within: Size) -> Box:
    """``box``, larger in one direction, so that it has the proportions of ``shape`` as far as ``within`` lets it."""
    left, upper, right, lower = box
    width, height = right - left, lower - upper
    wanted_width = max(width, round(height * shape[0] / shape[1]))
    wanted_height = max(height, round(width * shape[1] / shape[0]))
    left, right = _wider(left, right, wanted_width, within[0])
    upper, lower = _wider(upper, lower, wanted_height, within[1])
    return left, upper, right, lower


def filled(picture: Image.Image, mask: Image.Image, fill: str) -> Image.Image:
    """``picture``, RGB, with something else where the mask is white: plain grey, noise, or what is around it."""
    if fill == "original":
        return picture
    if fill == "plain":
        under = Image.new("RGB", picture.size, _GREY)
    elif fill == "noise":
        width, height = picture.size
        under = Image.frombytes("RGB", picture.size, random.Random(0).randbytes(3 * width * height))  # noqa: S311
    else:
        under = _from_neighbours(picture, mask)
    made = picture.copy()
    made.paste(under, mask=mask)
    return made


def _from_neighbours(picture: Image.Image, mask: Image.Image) -> Image.Image:
    """The colours from around the mask, ever more mixed towards its middle.

    Halved again and again, with what is masked weighing nothing, and put together from the coarsest on. Source: the
    pull-push of Gortler et al., The Lumigraph, section 3.4, https://doi.org/10.1145/237170.237200
    """
    levels = [picture.convert("RGBA")]
    levels[0].putalpha(ImageChops.invert(mask))
    while max(levels[-1].size) > 1:
        width, height = levels[-1].size
        levels.append(levels[-1].resize(((width + 1) // 2, (height + 1) // 2), Image.Resampling.BOX))
    last = levels.pop()
    made = last.convert("RGB") if last.getchannel("A").getbbox() else Image.new("RGB", (1, 1), _GREY)
    for level in reversed(levels):
        coarse = made.resize(level.size, Image.Resampling.BILINEAR)
        coarse.paste(level.convert("RGB"), mask=level.getchannel("A"))
        made = coarse
    return made


def _wider(first: int, last: int, wanted: int, most: int) -> tuple[int, int]:
    """From ``first`` to ``last``, as much longer on both sides as it should be, and has room for."""
    wanted = min(wanted, most)
    begin = min(max(first - (wanted - (last - first)) // 2, 0), most - wanted)
    return begin, begin + wanted
