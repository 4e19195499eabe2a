"""What comes with the built-in model does what it is for: its LoRA, its ControlNet, and inpainting with it.

How well, over more pictures: its model card.
"""

import asyncio
import io
import random
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from stablediffusiond.engine.beside_model import FOLDER
from stablediffusiond.engine.job import Pixels, Sample, Task
from stablediffusiond.engine.models import load
from stablediffusiond.engine.pipeline_denoiser import PipelineDenoiser
from stablediffusiond.messages.complete_request import CompleteRequest
from stablediffusiond.requestd.init_images import InitImages
from stablediffusiond.settings import FolderSettings, LimitSettings, ModelSettings
from tests.engine.finishing import finished
from tools.train_doodle.controlnet import anywhere
from tools.train_doodle.drawing import draw
from tools.train_doodle.evaluate_beside import Fields, drawn
from tools.train_doodle.lora import ink_drawing
from tools.train_doodle.measures import ink, overlap
from tools.train_doodle.outlines import outline
from tools.train_doodle.scenes import COLOURS, Scene

Colour = npt.NDArray[np.float64]

USUAL: Fields = {"steps": 12, "guidance_scale": 5}
#: In the middle and of normal size, as a prompt without a word about it has it.
MIDDLE = {"size": "normal", "place": "middle", "x": 0.5, "y": 0.5, "radius": 0.3}
BRIGHT = [("heart", "red", "white"), ("star", "yellow", "blue"), ("circle", "pink", "cyan"), ("moon", "orange", "pink")]


@pytest.fixture(scope="module")
def doodle() -> PipelineDenoiser:
    """Without settings."""
    return load(ModelSettings())


def asked(seed: int, scene: Scene, **fields: object) -> Fields:
    return {**USUAL, "prompt": f"a {scene.colour} {scene.subject} on a {scene.ground} background", "seed": seed, **fields}


def is_near(colour: Colour, name: str) -> bool:
    return bool(np.abs(colour - COLOURS[name]).max() < 60)


def corners(picture: Image.Image) -> Colour:
    pixels = np.asarray(picture, np.float64)
    mean: Colour = np.concatenate([pixels[:5, :5], pixels[:5, -5:], pixels[-5:, :5], pixels[-5:, -5:]]).mean((0, 1))
    return mean


def png(pixels: Pixels | Image.Image) -> bytes:
    out = io.BytesIO()
    (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(out, "PNG")
    return out.getvalue()


def test_requests_may_name_it_without_settings(doodle: PipelineDenoiser) -> None:
    offer = doodle.offer()
    assert [(lora.name, lora.family, lora.triggers) for lora in offer.loras] == [("ink", "doodle", ["ink drawing"])]
    assert offer.controlnets == ["outline"]


def test_a_file_of_the_settings_goes_before_one_of_the_same_name(tmp_path: Path) -> None:
    own = tmp_path / "mine" / "ink.safetensors"
    own.parent.mkdir()
    own.write_bytes((FOLDER / "loras" / "ink.safetensors").read_bytes().replace(b"ink drawing", b"my ink draw"))
    denoiser = load(ModelSettings(), folders=FolderSettings(loras=tmp_path))
    offer = denoiser.offer()
    assert [(lora.name, lora.triggers) for lora in offer.loras] == [("ink", ["my ink draw"])]
    assert offer.controlnets == ["outline"]


def test_other_models_have_none_of_it(doodle: PipelineDenoiser, pipeline: object) -> None:
    offer = PipelineDenoiser(pipeline, "tiny").offer()
    assert (offer.loras, offer.controlnets) == ([], [])


def test_both_are_small() -> None:
    lora, controlnet = FOLDER / "loras" / "ink.safetensors", FOLDER / "controlnets" / "outline"
    assert lora.stat().st_size < 300_000
    assert sum(file.stat().st_size for file in controlnet.iterdir()) < 3_000_000


def test_the_style_of_the_lora_comes_by_its_scale_and_not_to_neighbours(doodle: PipelineDenoiser) -> None:
    scenes = [Scene(subject, colour, ground, **MIDDLE) for subject, colour, ground in BRIGHT]  # type: ignore[arg-type]
    batch = [
        asked(seed, scene, loras=[{"name": "ink", "scale": scale}] if scale else [])
        for seed, scene in enumerate(scenes)
        for scale in (0, 1, 0, 0.5)
    ]
    pictures = drawn(doodle, batch)
    before, whole, between, half = (pictures[place::4] for place in range(4))
    right = fmean(
        ink(ink_drawing(scene, random.Random(seed)), draw(scene, random.Random(seed))) for seed, scene in enumerate(scenes)
    )
    assert 0.7 < fmean(map(ink, whole, before)) / right < 1.3
    assert 0.4 < fmean(map(ink, half, before)) / fmean(map(ink, whole, before)) < 0.6
    for scene, plain, same, inked in zip(scenes, before, between, whole, strict=True):
        assert np.abs(np.asarray(plain, int) - np.asarray(same, int)).max() <= 2
        assert is_near(corners(inked), scene.ground)


def test_the_style_comes_with_a_tag_in_the_prompt(doodle: PipelineDenoiser) -> None:
    scene = Scene("heart", "red", "white", **MIDDLE)  # type: ignore[arg-type]
    said = asked(0, scene)["prompt"]
    tag, field = drawn(doodle, [
        asked(0, scene) | {"prompt": f"{said} <lora:ink:1>"}, asked(0, scene, loras=[{"name": "ink", "scale": 1}]),
    ])  # fmt: skip
    assert np.abs(np.asarray(tag, int) - np.asarray(field, int)).max() <= 2


def outlined(count: int) -> list[tuple[Scene, Image.Image]]:
    """Scenes whose subject is where no prompt says, and their drawings."""
    rng = random.Random("outlined")
    scenes = [anywhere(rng) for _ in range(count)]
    return [(scene, draw(scene, rng)) for scene in scenes]


def test_the_outline_is_followed_and_not_by_neighbours(doodle: PipelineDenoiser) -> None:
    given = outlined(6)
    control = [{"model": "outline", "image": b"opened already"}]
    batch = [asked(seed, scene, control=control) for seed, (scene, _) in enumerate(given)]
    batch += [asked(seed, scene) for seed, (scene, _) in enumerate(given)]
    pictures = drawn(doodle, batch, [*([outline(drawing)] for _, drawing in given), *([] for _ in given)])
    followed = [overlap(picture, drawing) for picture, (_, drawing) in zip(pictures, given, strict=False)]
    by_chance = [overlap(picture, drawing) for picture, (_, drawing) in zip(pictures[6:], given, strict=True)]
    of_the_next = [overlap(picture, drawing) for picture, (_, drawing) in zip(pictures, given[1:], strict=False)]
    assert fmean(followed) > 0.8
    assert fmean(by_chance) < 0.5
    assert fmean(of_the_next) < 0.5
    for picture, (scene, _) in zip(pictures, given, strict=False):
        assert is_near(corners(picture), scene.ground)
    alone = drawn(doodle, batch[6:8])
    for picture, other in zip(pictures[6:8], alone, strict=True):
        assert np.abs(np.asarray(picture, int) - np.asarray(other, int)).max() <= 2


def inpainted(doodle: PipelineDenoiser, requests: Sequence[CompleteRequest]) -> list[Pixels]:
    """As the request daemon does it: the pictures opened, the drawn part laid on what was there."""

    async def opened(request: CompleteRequest) -> Pixels:
        given = await InitImages(doodle.kind_of).open(request, LimitSettings())
        task = Task(0, given.request, None, given.image, given.mask)
        sample = Sample(task, 0, doodle.kind_of(given.request), doodle.rows_of(given.request))
        assert doodle.begin([sample]) == {}
        while not sample.finished:
            assert doodle.step([sample], 100) == {}
        assert given.overlay is not None
        return given.overlay.under(finished(doodle, sample))

    return [asyncio.run(opened(request)) for request in requests]


def test_what_is_masked_becomes_what_is_asked_for_and_outside_every_byte_stays(doodle: PipelineDenoiser) -> None:
    """A masked circle becomes another thing, of another colour, on a picture that the model has not drawn itself."""
    noise = np.random.default_rng(0).integers(-6, 7, (128, 128, 3))
    circle = draw(Scene("circle", "red", "white", **MIDDLE), random.Random(0))  # type: ignore[arg-type]
    before = np.clip(np.asarray(circle, int) + noise, 0, 255).astype(np.uint8)
    mask = np.zeros((128, 128, 3), np.uint8)
    mask[20:108, 20:108] = 255
    wish = {**USUAL, "image": png(before), "mask": png(mask), "mask_fill": "neighbours", "strength": 1}
    square, star = inpainted(
        doodle,
        [
            CompleteRequest.from_fields({**wish, "prompt": f"a {said} on a white background", "seed": 3})[0]
            for said in ("blue square", "green star")
        ],
    )
    outside = mask[..., 0] == 0
    for after in (square, star):
        assert np.array_equal(after[outside], before[outside])
    assert is_near(square[58:70, 58:70].mean((0, 1)), "blue")
    assert is_near(star[58:70, 58:70].mean((0, 1)), "green")
    for picture, other in (("square", "star"), ("star", "square")):
        made = Image.fromarray({"square": square, "star": star}[picture])
        shapes = {
            name: draw(Scene(name, "blue", "white", **MIDDLE), random.Random(0))  # type: ignore[arg-type]
            for name in (picture, other)
        }
        assert overlap(made, shapes[picture]) > overlap(made, shapes[other])
