"""Outpainting: the picture on a larger canvas, with the new parts as its mask."""

import io
from typing import Any

import pytest
from PIL import Image

from stablediffusiond.client.extending import extended, read_sides
from stablediffusiond.errors import InvalidRequest, TooLarge
from stablediffusiond.messages.request import Request
from tests.pictures.files import encoded

RED = encoded(Image.new("RGB", (64, 48), "red"), "PNG")


def test_the_new_parts_are_transparent() -> None:
    fields = extended(RED, {"left": 32, "bottom": 16})
    image = fields["image"]
    assert isinstance(image, bytes)
    picture = Image.open(io.BytesIO(image))
    assert (picture.mode, picture.size, fields["width"], fields["height"]) == ("RGBA", (96, 64), 96, 64)
    assert picture.getpixel((0, 0)) == (0, 0, 0, 0)
    assert picture.getpixel((32, 0)) == picture.getpixel((95, 47)) == (255, 0, 0, 255)
    assert picture.getpixel((95, 48)) == (0, 0, 0, 0)


def test_it_is_an_inpainting_job() -> None:
    request, warnings = Request.from_fields({"prompt": "a beach", **extended(RED, {"right": 64})})
    assert (request.type, request.masked, request.mask_fill) == ("inpaint", True, "neighbours")
    assert warnings == []


@pytest.mark.parametrize(
    ("texts", "sides"), [(("left=128",), {"left": 128}), (("left=8,top=16", "right=0"), {"left": 8, "top": 16, "right": 0})]
)
def test_sides_as_they_are_written(texts: tuple[str, ...], sides: dict[str, int]) -> None:
    assert read_sides(texts) == sides


@pytest.mark.parametrize("text", ["left", "left=", "left=-8", "left=x", "=8,", ""])
def test_sides_that_are_none(text: str) -> None:
    with pytest.raises(InvalidRequest, match="must be like left=128"):
        read_sides((text,))


@pytest.mark.parametrize("sides", [{"up": 8}, {"left": 5000}])
def test_what_cannot_be_drawn_on(sides: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match="must be one of left, top, right, bottom"):
        extended(RED, sides)


def test_a_picture_that_is_too_large() -> None:
    with pytest.raises(TooLarge, match="can be drawn on"):
        extended(encoded(Image.new("L", (5000, 4000)), "PNG"), {"left": 8})
