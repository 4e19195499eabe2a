"""The file of a drawn picture, as readers of A1111's files read it: sd-parsers, which is none of ours."""

import io
import json

import numpy as np
import pytest
from PIL import Image
from sd_parsers import ParserManager

from stablediffusiond.engine.job import Drawn, Task
from stablediffusiond.pictures.metadata import read
from stablediffusiond.requestd import picture_file
from stablediffusiond.requestd.picture_file import PictureFile
from tests.messages.drawn import drawn

PIXELS = np.random.default_rng(0).integers(0, 255, (64, 128, 3), np.uint8)
SIGNATURES = {"PNG": b"\x89PNG", "JPEG": b"\xff\xd8\xff", "WEBP": b"RIFF"}


def made(at: int = 0, /, **fields: object) -> PictureFile:
    request, facts = drawn(at, **fields)  # type: ignore[arg-type]
    return picture_file.make(Drawn(Task(0, request), facts, PIXELS))


@pytest.mark.parametrize(
    ("picture_format", "quality", "content_type", "pillow"),
    [
        ("png", None, "image/png", "PNG"), ("jpeg", None, "image/jpeg", "JPEG"), ("webp", None, "image/webp", "WEBP"),
        ("webp", 100, "image/webp", "WEBP"),
    ],
)  # fmt: skip
def test_it_is_in_the_format_that_was_asked_for(
    picture_format: str, quality: int | None, content_type: str, pillow: str
) -> None:
    file = made(format=picture_format, quality=quality)
    picture = Image.open(io.BytesIO(file.data))
    assert (file.content_type, picture.format, picture.size, file.warnings) == (content_type, pillow, (128, 64), [])
    if picture_format == "png" or quality == 100:
        assert np.array_equal(np.asarray(picture), PIXELS)


@pytest.mark.parametrize("picture_format", ["jpeg", "webp"])
def test_less_quality_is_fewer_bytes(picture_format: str) -> None:
    sizes = [len(made(format=picture_format, quality=quality).data) for quality in (1, 50, None, 95)]
    assert sizes == sorted(sizes)


@pytest.mark.parametrize("picture_format", ["png", "jpeg", "webp"])
@pytest.mark.parametrize("prompt", ["a (red:1.2) cat,\nwith a hat <lora:ink:0.8>", "eine Kätzin, 赤い猫"])
def test_sd_parsers_reads_it(picture_format: str, prompt: str) -> None:
    file = made(
        prompt=prompt, negative_prompt="dog, ugly", sampler="DPM++ 2M Karras", steps=30, guidance_scale=6.5,
        format=picture_format, model="v1-5",
    )  # fmt: skip
    read_back = ParserManager().parse(io.BytesIO(file.data))
    assert read_back is not None
    [sampler] = read_back.samplers
    assert [each.value for each in sampler.prompts] == [prompt]
    assert [each.value for each in sampler.negative_prompts] == ["dog, ugly"]
    assert sampler.name == "DPM++ 2M"
    assert sampler.parameters == {"scheduler": "Karras", "steps": "30", "cfg_scale": "6.5", "seed": "42"}
    assert sampler.model is not None
    assert sampler.model.name == "v1-5"
    assert read_back.metadata == {"Size": "128x64", "RNG": "CPU"}


def test_sd_parsers_tells_a_controlnets_model_from_the_pictures() -> None:
    init = made().data
    file = made(control=[{"model": "canny", "image": init}], model="v1-5")
    read_back = ParserManager().parse(io.BytesIO(file.data))
    assert read_back is not None
    assert read_back.samplers[0].model is not None
    assert read_back.samplers[0].model.name == "v1-5"
    assert b"canny" in file.data


@pytest.mark.parametrize("picture_format", ["png", "jpeg", "webp"])
def test_a_picture_of_several_has_the_bytes_of_the_one_that_is_asked_for_alone(picture_format: str) -> None:
    of_several = made(2, count=3, id="several", priority="high", format=picture_format)
    alone = made(seed=44, id="alone", format=picture_format)
    assert of_several.data == alone.data
    assert json.loads(read(alone.data).request)["seed"] == 44


@pytest.mark.parametrize("picture_format", ["png", "jpeg", "webp"])
def test_without_metadata_nothing_of_the_request_is_in_it(picture_format: str) -> None:
    file = made(format=picture_format, metadata=False, prompt="SECRET", negative_prompt="SECRET")
    for spelt in (b"SECRET", "SECRET".encode("utf-16-be"), b"parameters", b"Exif", b"EXIF", b"tEXt", b"iTXt"):
        assert spelt not in file.data
    assert file.data.startswith(tuple(SIGNATURES.values()))


def test_what_a_jpeg_has_no_room_for_is_said() -> None:
    long: dict[str, object] = {"prompt": "漢" * 10_000, "negative_prompt": "字" * 10_000}
    file = made(**long, format="jpeg")
    assert file.warnings == ["a jpeg has no room for the request in JSON beside the picture; png and webp have"]
    assert read(file.data).parameters.startswith("漢")
    longer: dict[str, object] = {"prompt": "🐈" * 10_000, "negative_prompt": "🐕" * 10_000}
    assert made(**longer, format="jpeg").warnings == [
        "a jpeg has no room for the prompts beside the picture; png and webp have"
    ]
    assert not made(**longer, format="webp").warnings
