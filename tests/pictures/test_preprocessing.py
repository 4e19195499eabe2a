"""Preprocessors against pictures whose answer is known; their numbers are A1111's."""

import time
from unittest.mock import patch

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from stablediffusiond import preprocessors
from stablediffusiond.errors import OutOfMemory
from stablediffusiond.pictures import preprocessing

#: Dark on the left, bright on the right.
HALVES = Image.fromarray(np.array([[[40, 40, 40], [220, 220, 220]]], np.uint8).repeat(64, 0).repeat(32, 1))


def made(name: str, *numbers: float, of: Image.Image = HALVES) -> NDArray[np.uint8]:
    low, high = (*numbers, None, None)[:2]
    picture = preprocessing.preprocessed(of, name, preprocessors.numbers(name, low, high))
    assert (picture.mode, picture.size) == ("RGB", of.size)
    return np.asarray(picture)


def noise(seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (64, 96, 3), np.uint8))


def test_every_name_does_something() -> None:
    assert preprocessing._WORK.keys() == preprocessors.NUMBERS.keys()
    for name in preprocessors.NAMES:
        made(name, of=noise())


def test_canny_finds_the_edge_and_nothing_else() -> None:
    edges = made("canny")
    assert set(np.unique(edges)) == {0, 255}
    assert (edges[:, 30:34].max(axis=1) == 255).all()
    assert not edges[:, :30].any()
    assert not edges[:, 34:].any()
    faint = Image.fromarray(np.array([[[100] * 3, [120] * 3]], np.uint8).repeat(64, 0).repeat(32, 1))
    assert not made("canny", of=faint).any(), "80 of 100"
    assert made("canny", 20, 70, of=faint).any()


def test_scribble_and_lineart_are_white_where_it_is_darker_than_around() -> None:
    paper = np.full((64, 64, 3), 255, np.uint8)
    paper[:, 31:33] = 0
    for name in ("scribble_xdog", "lineart_standard"):
        lines = made(name, of=Image.fromarray(paper))
        assert (lines[:, 31:33] > 120).all(), name
        assert not lines[:, :16].any(), name
    assert not made("lineart_standard", of=Image.new("RGB", (64, 64), "grey")).any()


def test_those_that_look_at_one_pixel() -> None:
    picture = np.array([[[0, 100, 200]]], np.uint8).repeat(64, 0).repeat(64, 1)
    image = Image.fromarray(picture)
    assert made("invert", of=image)[0, 0].tolist() == [255, 155, 55]
    assert made("threshold", of=image)[0, 0].tolist() == [0, 0, 255]
    assert made("threshold", 99, of=image)[0, 0].tolist() == [0, 255, 255]
    assert made("recolor_intensity", of=image)[0, 0].tolist() == [200, 200, 200]
    assert made("recolor_intensity", 2, of=image)[0, 0].tolist() == [156, 156, 156]
    grey = Image.new("RGB", (64, 64), "white")
    assert (made("recolor_luminance", of=grey) == 255).all()


def test_binary_is_white_where_it_is_dark() -> None:
    for number in ((), (255,), (100,)):
        both = made("binary", *number)
        assert (both[:, :32] == 255).all(), number
        assert not both[:, 32:].any(), number
    assert (made("binary", 230) == 255).all()


def test_blur_and_tile_keep_the_colours_and_lose_the_detail() -> None:
    fine = noise()
    assert np.array_equal(made("tile_resample", of=fine), np.asarray(fine)), "once smaller is as it was"
    for coarse in (made("blur_gaussian", of=fine), made("tile_resample", 8, of=fine)):
        assert abs(coarse.mean() - np.asarray(fine).mean()) < 3
        assert coarse.std() < 0.3 * np.asarray(fine).std()
    assert len(np.unique(made("t2ia_color_grid", of=HALVES).reshape(-1, 3), axis=0)) == 1, "one cell is 64 pixels"


@pytest.mark.parametrize("size", [(64, 64), (72, 8), (1024, 1024)])
def test_every_size_in_a_time_that_a_job_may_cost(size: tuple[int, int]) -> None:
    picture = Image.effect_noise(size, 80).convert("RGB")
    for name, taken in preprocessors.NUMBERS.items():
        began = time.thread_time()
        made(name, *(number.most for number in taken), of=picture)
        made(name, *(number.least for number in taken), of=picture)
        assert time.thread_time() - began < 2, name


def test_where_memory_ends_the_job_is_told_so() -> None:
    with patch.object(cv2, "Canny", side_effect=cv2.error("insufficient memory")), pytest.raises(OutOfMemory):
        made("canny")
