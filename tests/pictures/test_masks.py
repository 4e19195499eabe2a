"""Masks: their edge, what lies under them, the part that alone is drawn, and what comes back byte for byte."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from stablediffusiond.errors import InvalidRequest
from stablediffusiond.pictures.masks import Overlay, box_around, filled, in_shape, with_edge


def picture(width: int = 96, height: int = 64) -> Image.Image:
    """Left red, right blue."""
    made = Image.new("RGB", (width, height), "red")
    made.paste("blue", (width // 2, 0, width, height))
    return made


def mask(box: tuple[int, int, int, int], width: int = 96, height: int = 64) -> Image.Image:
    made = Image.new("L", (width, height))
    ImageDraw.Draw(made).rectangle((box[0], box[1], box[2] - 1, box[3] - 1), fill=255)
    return made


def test_an_edge_is_soft_by_so_many_pixels_and_inverted_first() -> None:
    hard = mask((32, 16, 64, 48))
    assert with_edge(hard, invert=False, blur=0) == hard
    soft = with_edge(hard, invert=False, blur=4)
    assert soft.getpixel((48, 32)) == 255
    assert 100 < int(soft.getpixel((32, 32))) < 155  # type: ignore[arg-type]
    assert with_edge(hard, invert=True, blur=0).getpixel((48, 32)) == 0


@pytest.mark.parametrize(("padding", "box"), [(0, (32, 16, 64, 48)), (8, (24, 8, 72, 56)), (40, (0, 0, 96, 64))])
def test_the_part_around_a_mask(padding: int, box: tuple[int, int, int, int]) -> None:
    assert box_around(mask((32, 16, 64, 48)), padding) == box


def test_a_mask_without_white_has_no_part() -> None:
    with pytest.raises(InvalidRequest, match="nothing white"):
        box_around(Image.new("L", (8, 8)), 4)


@pytest.mark.parametrize(
    ("box", "shape", "made"),
    [
        ((32, 16, 64, 48), (64, 64), (32, 16, 64, 48)),
        ((32, 16, 64, 48), (128, 64), (16, 16, 80, 48)),
        ((0, 0, 10, 20), (64, 64), (0, 0, 20, 20)),
        ((80, 0, 96, 64), (64, 64), (32, 0, 96, 64)),
        ((0, 0, 96, 64), (64, 64), (0, 0, 96, 64)),  # there is no more
    ],
)
def test_a_part_has_the_shape_of_what_is_drawn(box: object, shape: object, made: object) -> None:
    assert in_shape(box, shape, (96, 64)) == made  # type: ignore[arg-type]


@pytest.mark.parametrize("fill", ["original", "neighbours", "noise", "plain"])
def test_only_what_is_under_the_mask_changes(fill: str) -> None:
    whole, hidden = picture(), mask((32, 16, 64, 48))
    made = np.asarray(filled(whole, hidden, fill))
    outside = np.asarray(hidden) == 0
    assert (made[outside] == np.asarray(whole)[outside]).all()
    assert (made == np.asarray(filled(whole, hidden, fill))).all(), "the same request draws the same"
    if fill != "original":
        assert (made[~outside] != np.asarray(whole)[~outside]).any()


def test_neighbours_are_the_colours_beside_it() -> None:
    made = filled(picture(), mask((8, 16, 88, 48)), "neighbours")
    left, right = np.asarray(made)[32, 10], np.asarray(made)[32, 85]
    assert left[0] > 200 > 60 > left[2]
    assert right[2] > 200 > 60 > right[0]
    everything = filled(picture(), Image.new("L", (96, 64), 255), "neighbours")
    assert everything.getpixel((5, 5)) == (128, 128, 128)


def test_what_is_outside_the_mask_comes_back_byte_for_byte() -> None:
    generator = np.random.default_rng(1)
    whole = Image.fromarray(generator.integers(0, 256, (64, 96, 3), dtype=np.uint8))
    hidden = with_edge(mask((32, 16, 64, 48)), invert=False, blur=2)
    box = (16, 0, 80, 64)
    drawn = np.full((128, 128, 3), 9, np.uint8)
    made = Overlay(whole, hidden, box).under(drawn)
    outside = np.asarray(hidden) == 0
    assert outside.sum() > 1000
    assert (made[outside] == np.asarray(whole)[outside]).all()
    assert (made[np.asarray(hidden) == 255] == 9).all()
