"""The built-in model draws what it is asked for. How often, over hundreds of prompts: its model card."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from stablediffusiond.engine import models
from stablediffusiond.engine.job import Pixels, Sample, Task
from stablediffusiond.engine.models import load
from stablediffusiond.engine.pipeline_denoiser import PipelineDenoiser
from stablediffusiond.messages.complete_request import CompleteRequest
from stablediffusiond.pictures.opening import open_init_image
from stablediffusiond.settings import ModelSettings
from tests.engine.finishing import finished

#: Half of what it is made for: what it draws is the same, with less detail.
STEPS = 12
COLOURS = {"red": (215, 40, 40), "blue": (45, 85, 215), "green": (45, 155, 65), "yellow": (250, 215, 50)}
Colour = npt.NDArray[np.float64]


@pytest.fixture(scope="module")
def doodle() -> PipelineDenoiser:
    return load(ModelSettings())


def opened(wish: CompleteRequest) -> Image.Image | None:
    return open_init_image(wish.image, 128, 128) if wish.image else None


def draw(doodle: PipelineDenoiser, requests: Sequence[CompleteRequest]) -> list[Pixels]:
    """All of them in one batch."""
    samples = [
        Sample(Task(place, wish, init_image=opened(wish)), 0, doodle.kind_of(wish), doodle.rows_of(wish))
        for place, wish in enumerate(requests)
    ]
    assert doodle.begin(samples) == {}
    while not samples[0].finished:
        assert doodle.step(samples, 100) == {}
    return [finished(doodle, sample) for sample in samples]


def request(prompt: str, seed: int = 0, **fields: object) -> CompleteRequest:
    return CompleteRequest.from_fields({"prompt": prompt, "seed": seed, "steps": STEPS, "guidance_scale": 5, **fields})[0]


def ground(pixels: Pixels) -> Colour:
    """The mean of the four corners."""
    mean: Colour = np.mean([pixels[y : y + 6, x : x + 6].mean((0, 1)) for y in (0, -7) for x in (0, -7)], axis=0)
    return mean


def middle(pixels: Pixels) -> Colour:
    height, width, _ = pixels.shape
    inner: Colour = pixels[height // 2 - 6 : height // 2 + 6, width // 2 - 6 : width // 2 + 6].mean((0, 1))
    return inner


def is_near(colour: Colour, name: str) -> bool:
    return bool(np.abs(colour - COLOURS[name]).max() < 60)


@pytest.mark.parametrize(("colour", "other"), [("red", "blue"), ("yellow", "green"), ("blue", "yellow")])
def test_subject_and_ground_have_the_colours_that_were_asked_for(
    doodle: PipelineDenoiser, colour: str, other: str
) -> None:
    for pixels in draw(doodle, [request(f"a {colour} circle on a {other} background", seed) for seed in range(4)]):
        assert is_near(middle(pixels), colour)
        assert is_near(ground(pixels), other)


@pytest.mark.parametrize("side", [96, 128, 160, 192])
def test_other_sizes_than_its_own(doodle: PipelineDenoiser, side: int) -> None:
    [pixels] = draw(doodle, [request("a red circle on a blue background", width=side, height=side)])
    assert pixels.shape == (side, side, 3)
    assert is_near(middle(pixels), "red")
    assert is_near(ground(pixels), "blue")


def test_what_is_not_wanted_is_not_drawn(doodle: PipelineDenoiser) -> None:
    grounds = [ground(pixels) for pixels in draw(doodle, [request("on a red background", seed) for seed in range(3)])]
    assert all(is_near(colour, "red") for colour in grounds)
    cats = draw(doodle, [request("a cat", seed, negative_prompt="red") for seed in range(12)])
    assert not any(is_near(middle(pixels), "red") for pixels in cats)


def test_an_image_is_drawn_anew_where_it_was(doodle: PipelineDenoiser) -> None:
    reds = draw(doodle, [request("a red circle on a white background", seed) for seed in range(4)])
    again = [request("a blue circle", 50 + seed, image=_png(red), strength=0.6) for seed, red in enumerate(reds)]
    for red, blue in zip(reds, draw(doodle, again), strict=True):
        assert is_near(middle(blue), "blue")
        assert np.hypot(*(_centre(blue, "blue") - _centre(red, "red"))) < 12


@pytest.mark.parametrize("size", [(144, 112), (104, 152), (256, 64)], ids=str)
def test_a_photograph_is_drawn_anew_in_its_own_proportions(doodle: PipelineDenoiser, size: tuple[int, int]) -> None:
    """Sizes that are multiples of 8, and not of what the UNet halves."""
    width, height = size
    red = request("a red circle on a white background", 1, width=width, height=height)
    again = request("a blue circle", 51, image=_png(draw(doodle, [red])[0]), strength=0.6, width=width, height=height)
    picture = open_init_image(again.image or b"", width, height)
    sample = Sample(Task(0, again, init_image=picture), 0, doodle.kind_of(again), doodle.rows_of(again))
    assert doodle.begin([sample]) == {}
    while not sample.finished:
        assert doodle.step([sample], 100) == {}
    assert finished(doodle, sample).shape == (height, width, 3)


def test_seeds_have_64_bits_of_which_torch_takes_the_lower_half(doodle: PipelineDenoiser) -> None:
    seeds = [42, 42 + 2**32, 2**63, 2**64 - 1, 2**32 - 1]
    drawn = draw(doodle, [request("a cat", seed, steps=2) for seed in seeds])
    assert np.array_equal(drawn[0], drawn[1])
    assert np.array_equal(drawn[3], drawn[4])
    assert not np.array_equal(drawn[0], drawn[2])


def _png(pixels: Pixels) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def _centre(pixels: Pixels, name: str) -> Colour:
    rows, columns = np.nonzero(np.abs(pixels.astype(int) - COLOURS[name]).max(axis=2) < 60)
    assert len(rows) > 300
    return np.array([rows.mean(), columns.mean()])


@pytest.mark.parametrize("prompt", ["", "cats!", "ein Hündchen 🐈", "masterpiece, best quality, " * 30, "a qwxzy"])
def test_any_words_give_a_tidy_picture(doodle: PipelineDenoiser, prompt: str) -> None:
    [pixels] = draw(doodle, [request(prompt)])
    corners = [pixels[y : y + 6, x : x + 6].astype(int) for y in (0, -7) for x in (0, -7)]
    assert max(corner.std(axis=(0, 1)).max() for corner in corners) < 12  # plain ground


def test_it_is_small() -> None:
    files = [file for file in models.BUILT_IN.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= 10_000_000
    assert Path(models.BUILT_IN / "README.md") in files


def test_only_what_is_masked_is_drawn_anew(doodle: PipelineDenoiser) -> None:
    [red] = draw(doodle, [request("a red circle on a white background", 1)])
    mask = Image.new("L", (128, 128), 0)
    mask.paste(255, (64, 0, 128, 128))
    again = request("a blue circle on a white background", 7, image=_png(red), mask=_png(np.asarray(mask.convert("RGB"))))
    sample = Sample(Task(0, again, None, opened(again), mask), 0, doodle.kind_of(again), doodle.rows_of(again))
    assert doodle.begin([sample]) == {}
    while not sample.finished:
        assert doodle.step([sample], 100) == {}
    drawn = finished(doodle, sample)
    assert np.abs(drawn[:, :48].astype(int) - red[:, :48]).mean() < 8  # as the autoencoder gives it back
    inside, outside = drawn[52:76, 72:84].mean((0, 1)), drawn[52:76, 44:56].mean((0, 1))
    assert is_near(inside, "blue")
    assert is_near(outside, "red")
