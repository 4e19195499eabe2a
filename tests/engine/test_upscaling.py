"""Pictures that are enlarged: tile by tile, between the steps of others, as spandrel's network enlarges them whole."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file

from stablediffusiond.engine.capacity import Capacity
from stablediffusiond.engine.engine import Engine
from stablediffusiond.engine.job import Drawn, Event, Finished, Kind, Pixels, Sample, Stepped, Task
from stablediffusiond.engine.models import load_pipeline
from stablediffusiond.engine.pipeline_denoiser import PipelineDenoiser
from stablediffusiond.engine.upscaler_files import Upscaler, Upscalers
from stablediffusiond.engine.upscaling import MARGIN, Upscaling, spans
from stablediffusiond.errors import InvalidRequest, ModelError
from stablediffusiond.messages.request import Request
from stablediffusiond.settings import FolderSettings, ModelSettings
from tests.engine import upscaler_writing
from tests.engine.finishing import finished
from tests.engine.lora_files import kohya

CPU = torch.device("cpu")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "upscalers").mkdir()
    return tmp_path / "upscalers"


def read(folder: Path, name: str) -> Upscaler:
    return Upscalers(folder, 1_000_000_000, CPU, torch.float32).read(name)


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8))


def as_tensor(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255


def whole(network: Any, image: Image.Image) -> Pixels:
    """What ``network`` makes of all of it at once."""
    with torch.inference_mode():
        larger = network(as_tensor(image)[None])[0].clamp(0, 1)
    pixels: Pixels = (larger.permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
    return pixels


def difference(one: Pixels, other: Pixels) -> int:
    return int(np.abs(one.astype(int) - other.astype(int)).max())


# Tiles


@given(st.integers(1, 700), st.sampled_from([64, 80, 128, 512]))
def test_tiles_keep_every_pixel_once_and_see_around_it(length: int, tile: int) -> None:
    made = spans(length, tile)
    assert [pixel for span in made for pixel in range(span.kept_first, span.kept_end)] == list(range(length))
    for span in made:
        assert span.end - span.first == min(tile, length), "tiles of one size are calls of one shape"
        assert span.kept_first - span.first >= min(MARGIN, span.kept_first)
        assert span.end - span.kept_end >= min(MARGIN, length - span.kept_end)


@pytest.mark.parametrize("size", [(64, 64), (150, 97), (40, 300)])
@pytest.mark.parametrize(
    ("file", "make"), [("a.pth", upscaler_writing.esrgan), ("a.safetensors", upscaler_writing.compact)]
)
def test_what_tiles_make_is_what_the_network_makes_of_the_whole(
    folder: Path, size: tuple[int, int], file: str, make: Any
) -> None:
    network = make(folder / file, scale=2)
    image = picture(*size)
    upscaling = Upscaling(read(folder, "a"), size, (2 * size[0], 2 * size[1]), longest_tile_seconds=0)
    made = upscaling.enlarge(as_tensor(image))
    assert upscaling.steps_done == upscaling.steps
    assert made.shape == (2 * size[1], 2 * size[0], 3)
    assert difference(made, whole(network, image)) <= 1
    assert difference(made, whole(network, picture(*size, seed=1))) > 20


def test_a_tile_that_may_take_longer_is_larger(folder: Path) -> None:
    upscaler_writing.compact(folder / "a.safetensors")
    upscaler = read(folder, "a")
    vars(upscaler)["_seconds_of_timed_tile"] = 0.1  # as it would be measured
    assert upscaler.tile_pixels(0.0) == 48
    assert upscaler.tile_pixels(0.099) == 48
    assert upscaler.tile_pixels(0.1) == 64
    assert upscaler.tile_pixels(0.4) == 128
    assert upscaler.tile_pixels(1e9) == 512


def test_a_network_of_a_small_scale_is_used_again(folder: Path) -> None:
    network = upscaler_writing.compact(folder / "a.safetensors", scale=2)
    image = picture(70, 64)
    upscaling = Upscaling(read(folder, "a"), (70, 64), (280, 256), longest_tile_seconds=0)
    assert difference(upscaling.enlarge(as_tensor(image)), whole(network, Image.fromarray(whole(network, image)))) <= 1


def test_one_that_changes_no_size_is_used_once(folder: Path) -> None:
    upscaler_writing.compact(folder / "a.safetensors", scale=1)
    upscaling = Upscaling(read(folder, "a"), (64, 64), (128, 128), longest_tile_seconds=0)
    assert upscaling.enlarge(as_tensor(picture(64, 64))).shape == (64, 64, 3)


# Files


def test_it_is_found_by_its_name_and_the_nearest_is_named(folder: Path) -> None:
    upscaler_writing.esrgan(folder / "4x" / "Foolhardy.pth", scale=4)
    assert read(folder, "foolhardy").scale == 4
    with pytest.raises(InvalidRequest, match="did you mean 'Foolhardy'"):
        read(folder, "Foolhardi")


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", ModelError),
        (b"no file of PyTorch", ModelError),
        ({"something.weight": torch.zeros(2, 2)}, InvalidRequest),
        ({"code": print}, ModelError),
    ],
    ids=["empty", "text", "of another kind", "a pickle that names a function"],
)
def test_a_file_that_is_no_upscaler_is_refused_by_its_name(folder: Path, content: Any, error: type[Exception]) -> None:
    if isinstance(content, bytes):
        (folder / "odd.pth").write_bytes(content)
    else:
        torch.save(content, folder / "odd.pth")
    with pytest.raises(error, match="odd"):
        read(folder, "odd")


def test_a_lora_among_the_upscalers_is_refused(folder: Path) -> None:
    kohya(load_pipeline(ModelSettings()), folder / "ink.safetensors", 0)
    with pytest.raises(InvalidRequest, match="'ink' in the folder of upscalers is none"):
        read(folder, "ink")


def test_one_for_grey_pictures_is_refused(folder: Path) -> None:
    upscaler_writing.esrgan(folder / "grey.pth", colours=1)
    with pytest.raises(InvalidRequest, match="no upscaler of pictures in colour"):
        read(folder, "grey")


def test_a_broken_weight_names_the_file(folder: Path) -> None:
    network = upscaler_writing.compact(folder / "a.safetensors")
    state = network.state_dict()
    state["body.0.weight"] = state["body.0.weight"][:, :, :2]
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, folder / "a.safetensors")
    with pytest.raises((InvalidRequest, ModelError), match="'a'"):
        read(folder, "a")


# With the engine


def opened(folder: Path) -> PipelineDenoiser:
    return PipelineDenoiser(
        load_pipeline(ModelSettings(device="cpu")), "doodle", folders=FolderSettings(upscalers=folder)
    )


def task(denoiser: PipelineDenoiser, key: int, image: Image.Image | None, **fields: Any) -> Task:
    held = {"image": b"opened already"} if image else {}
    request, _ = denoiser.complete(Request.from_fields({"prompt": "a cat", "id": "x", **held, **fields})[0])
    if image is not None:
        sides = [round(side * request.upscale_by) for side in image.size]
        request = request.model_copy(update={"width": sides[0], "height": sides[1]})
    return Task(key, request, init_image=image, files=denoiser.read_files(request))


def run(denoiser: PipelineDenoiser, tasks: list[Task]) -> list[Event]:
    events: list[Event] = []
    clock = itertools.count(0.0)  # so that all steps take equally long
    engine = Engine(
        denoiser,
        Capacity(Kind(128, 128), {4: 1.0}),
        progress_interval_seconds=0,
        on_event=events.append,
        clock=lambda: next(clock),
    )
    for each in tasks:
        engine.submit(each)
    while sum(isinstance(event, Finished) for event in events) < len(tasks):
        engine._take_in()
        engine.step()
    return events


def test_tiles_are_steps_between_those_of_others(folder: Path) -> None:
    upscaler_writing.esrgan(folder / "a.pth")
    denoiser = opened(folder)
    denoiser._longest_tile_seconds = 0
    image = picture(160, 160)
    tasks = [task(denoiser, 0, image, type="upscale", upscaler="a"), task(denoiser, 1, None, steps=12)]
    events = run(denoiser, tasks)
    steps = [event.task.key for event in events if isinstance(event, Stepped)]
    assert steps.count(0) == len(spans(160, 48)) ** 2 == 64
    assert steps.count(1) == 12
    while_both = steps[: len(steps) - 1 - steps[::-1].index(1)]
    assert 11 <= while_both.count(0) <= 13, "neither of them waits for the other"
    [drawn] = [event for event in events if isinstance(event, Drawn) and event.task.key == 0]
    assert drawn.pixels.shape == (320, 320, 3)
    facts = drawn.facts
    assert (facts.type, facts.width, facts.height, facts.upscaler, facts.steps) == ("upscale", 320, 320, "a", 0)


def test_two_pictures_tiles_share_no_call(folder: Path) -> None:
    upscaler_writing.esrgan(folder / "a.pth")
    denoiser = opened(folder)
    samples = []
    for key in range(2):
        made = task(denoiser, key, picture(64, 64, key), type="upscale", upscaler="a")
        samples.append(Sample(made, 0, denoiser.kind_of(made.request), denoiser.rows_of(made.request)))
    assert denoiser.begin(samples) == {}
    assert samples[0].kind != samples[1].kind
    for sample in samples:
        assert denoiser.step([sample], 1) == {}
    assert difference(finished(denoiser, samples[0]), finished(denoiser, samples[1])) > 20


def test_what_no_network_enlarges_comes_as_it_was_opened(folder: Path) -> None:
    denoiser = opened(folder)
    image = picture(128, 96)
    made = task(denoiser, 0, image, type="upscale", upscaler="Nearest", scale=1.0000001)
    [drawn] = [event for event in run(denoiser, [made]) if isinstance(event, Drawn)]
    assert np.array_equal(drawn.pixels, np.asarray(image))


def test_a_second_pass_is_of_what_the_network_has_made_of_the_first(folder: Path) -> None:
    network = upscaler_writing.esrgan(folder / "a.pth", scale=2)
    denoiser = opened(folder)
    first = task(denoiser, 0, None, steps=6, seed=7)
    hires = {"scale": 1.5, "upscaler": "a", "strength": 0.5, "steps": 6}
    both = task(denoiser, 1, None, steps=6, seed=7, hires=hires)
    drawn = {event.task.key: event for event in run(denoiser, [first, both]) if isinstance(event, Drawn)}
    assert drawn[1].pixels.shape == (192, 192, 3)
    larger = Image.fromarray(whole(network, Image.fromarray(drawn[0].pixels))).resize(
        (192, 192), Image.Resampling.LANCZOS
    )
    again = Request.from_fields(
        {"prompt": "a cat", "id": "x", "image": b"opened already", "strength": 0.5, "steps": 6, "seed": 7, "width": 192,
         "height": 192, "guidance_scale": first.request.guidance_scale}
    )[0]  # fmt: skip
    second = Task(2, denoiser.complete(again)[0], init_image=larger)
    [redrawn] = [event for event in run(denoiser, [second]) if isinstance(event, Drawn)]
    apart = np.abs(drawn[1].pixels.astype(int) - redrawn.pixels).mean()
    assert apart < 0.5, "it is enlarged before it is rounded to bytes"
    assert np.abs(drawn[1].pixels.astype(int) - np.asarray(larger)).mean() > 5 * apart, "and drawn on"
    facts = drawn[1].facts
    assert (facts.first_width, facts.width, facts.upscaler, facts.hires_steps) == (128, 192, "a", 6)


def test_what_only_steps_need_is_warned_of(folder: Path) -> None:
    denoiser = opened(folder)
    fields = {"type": "upscale", "image": b"opened already", "steps": 5, "prompt": "a cat", "id": "x"}
    _, warnings = denoiser.complete(Request.from_fields(fields)[0])
    assert warnings == ["an upscale has no use for 'prompt'", "an upscale has no use for 'steps'"]
