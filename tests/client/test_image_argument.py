"""What a program may give as ``image``. What arrives is looked at as the daemon looks at it."""

import base64
import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stablediffusiond.client import image_argument
from stablediffusiond.client.image_argument import MOST_BYTES, names_images, with_images_read
from stablediffusiond.errors import InvalidRequest
from stablediffusiond.messages.request import Request
from stablediffusiond.pictures.opening import open_at, open_init_image
from tests.pictures.files import encoded, profile
from tests.pictures.test_colours import palette

RED = Image.new("RGB", (40, 30), (200, 10, 10))
PNG = encoded(RED, "PNG")


def sent(image: object, name: str = "image") -> bytes:
    request, _ = Request.from_fields(with_images_read({"prompt": "cat", name: image}))
    assert request.image is not None
    return request.image


def seen(image: object, size: tuple[int, int] = (40, 30)) -> Image.Image:
    return open_init_image(sent(image), *size)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "a cat.png"
    file.write_bytes(PNG)
    return file


def test_bytes_and_base64_go_as_they_are() -> None:
    for image in (PNG, bytearray(PNG), memoryview(PNG), base64.b64encode(PNG).decode()):
        assert sent(image) == PNG


@pytest.mark.parametrize(
    ("field", "name", "image", "many"),
    [
        ("control", "model", "image", False), ("control", "model", "image", True),
        ("controlnet_units", "model", "input_image", True), ("ip_adapter", "name", "image", True),
        ("ip_adapter", "name", "ip_adapter_image", False),
    ],
)  # fmt: skip
def test_so_is_that_of_a_controlnet_or_an_ip_adapter(
    field: str, name: str, image: str, many: bool, path: Path
) -> None:
    guide = {name: "edges", image: path}
    assert names_images({field: guide})
    given = {"prompt": "cat", field: [guide, {name: "other", image: RED}] if many else guide}
    request, _ = Request.from_fields(with_images_read(given))
    uses = [*request.control, *request.ip_adapter]
    assert [use.image == PNG for use in uses] == ([True, False] if many else [True])
    assert open_init_image(uses[-1].image or b"", 40, 30).getpixel((0, 0)) == (200, 10, 10)


def test_what_is_no_guide_is_for_the_request_to_refuse_or_to_take_for_nothing() -> None:
    assert Request.from_fields(with_images_read({"prompt": "cat", "control": None, "ip_adapter": []}))[0].control == ()
    with pytest.raises(InvalidRequest, match=r"^'control'"):
        Request.from_fields(with_images_read({"prompt": "cat", "control": 3}))


def test_a_path_is_read_however_it_is_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Elsewhere(os.PathLike[str]):
        def __fspath__(self) -> str:
            return str(path)

    monkeypatch.chdir(path.parent)
    for image in (path, str(path), "a cat.png", Path("a cat.png"), Elsewhere()):
        assert sent(image) == PNG


def test_a_path_whose_letters_are_base64_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "photo123").write_bytes(PNG)
    monkeypatch.chdir(tmp_path)
    assert sent("photo123") == PNG


def test_an_open_file_is_read(path: Path) -> None:
    with path.open("rb") as file:
        assert sent(file) == PNG
        assert not file.closed
    assert sent(io.BytesIO(PNG)) == PNG


@pytest.mark.parametrize("name", ["init_img", "init_image", "source_image"])
def test_an_image_by_any_name(name: str, path: Path) -> None:
    assert sent(path, name) == PNG
    assert sent([RED], "init_images")
    assert sent([path], "init_images") == PNG


def test_nothing_else_is_touched(path: Path) -> None:
    fields = {"prompt": str(path), "negative_prompt": path.name, "image": None, "steps": 3}
    assert with_images_read(fields) == fields


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "I;16"]
)
@pytest.mark.parametrize("size", [(40, 30), (2400, 2000)], ids=str)
def test_a_picture_of_pillows_in_any_mode(mode: str, size: tuple[int, int]) -> None:
    assert seen(Image.new(mode, size)).mode == "RGB"


def test_a_picture_of_pillows_loses_nothing() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 4), np.uint8))
    arrived = Image.open(io.BytesIO(sent(noise)))
    assert np.array_equal(np.asarray(arrived), np.asarray(noise))
    grey = Image.fromarray(np.arange(4096, dtype="<u2").reshape(64, 64) * 16)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(sent(grey)))), np.asarray(grey))


def test_what_was_drawn_can_be_given_back() -> None:
    drawn = Image.open(io.BytesIO(PNG))  # as Client.draw returns it
    assert seen(drawn).getpixel((3, 3)) == (200, 10, 10)


def test_a_picture_that_lies_on_its_side_is_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    lying = Image.open(io.BytesIO(encoded(RED, "JPEG", exif=exif)))
    assert open_at(sent(lying), lambda size: size).size == (30, 40)


def test_a_pictures_profile_goes_with_it() -> None:
    swapped = profile((0.3851, 0.7169, 0.0971), (0.4360, 0.2225, 0.0139), (0.1431, 0.0606, 0.7141))
    for mode in ("RGB", "RGBA"):
        tagged = Image.open(io.BytesIO(encoded(RED.convert(mode), "PNG", icc_profile=swapped)))
        assert seen(tagged).getpixel((3, 3)) == pytest.approx((10, 200, 10), abs=15)


def test_a_clear_picture_lies_on_white() -> None:
    assert seen(Image.new("RGBA", (40, 30), (1, 2, 3, 0))).getpixel((3, 3)) == (255, 255, 255)
    for colours in (palette(), palette().resize((3000, 2000))):
        clear = Image.open(io.BytesIO(encoded(colours, "PNG", transparency=3)))
        assert seen(clear).getpixel((3, 3)) == (255, 255, 255)


def test_an_array_is_a_picture() -> None:
    assert seen(np.full((30, 40, 3), (200, 10, 10), np.uint8)).getpixel((3, 3)) == (200, 10, 10)
    assert seen(np.full((30, 40), 90, np.uint8)).getpixel((3, 3)) == (90, 90, 90)
    with pytest.raises(InvalidRequest, match="in uint8") as caught:
        sent(np.zeros((2, 3, 30, 40)))
    assert caught.value.field == "image"


def test_more_pixels_than_are_of_use_are_not_sent() -> None:
    arrived = Image.open(io.BytesIO(sent(Image.new("RGB", (6000, 4000), "red"))))
    assert 4_000_000 < arrived.width * arrived.height <= 2048 * 2048
    assert arrived.width / arrived.height == pytest.approx(1.5, abs=0.01)


def test_noise_is_made_smaller_until_a_request_holds_it() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (2048, 2048, 4), np.uint8))
    data = sent(noise)
    assert len(data) <= MOST_BYTES
    assert Image.open(io.BytesIO(data)).width < 2048


def test_a_file_that_no_request_holds_is_sent_smaller(tmp_path: Path) -> None:
    photograph = Image.fromarray(np.random.default_rng(0).integers(0, 255, (3000, 4000, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(photograph, "JPEG", quality=98, exif=exif)
    assert len(data) > MOST_BYTES
    (tmp_path / "photograph.jpg").write_bytes(data)
    for image in (data, tmp_path / "photograph.jpg"):
        arrived = Image.open(io.BytesIO(sent(image)))
        assert arrived.height / arrived.width == pytest.approx(4 / 3, abs=0.01)
        assert arrived.width * arrived.height <= 2048 * 2048


@pytest.mark.parametrize(
    "image", ["nowhere.png", "/etc/nowhere/at/all.png", "https://example.org/a.png", "x" * 5000 + "!", "a\0b"]
)
def test_a_text_that_is_no_file_and_no_base64_is_refused(image: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        sent(image)
    assert caught.value.field == "image"


def test_what_cannot_be_read_is_said(tmp_path: Path, path: Path) -> None:
    for image, expected in (
        (tmp_path / "nowhere.png", "cannot read .*nowhere.png: No such file"),
        (tmp_path, "cannot read .*: Is a directory"),
        (io.StringIO("cat"), "binary mode"),
        (3, "must be the text"),
        ([RED], "must not be a list"),
    ):
        with pytest.raises(InvalidRequest, match=expected) as caught:
            sent(image)
        assert caught.value.field == "image"
    broken = Image.open(io.BytesIO(PNG[: len(PNG) // 2]))
    with pytest.raises(InvalidRequest, match="cannot be encoded"):
        sent(broken)


def test_the_fields_of_others_open_nothing(path: Path) -> None:
    with pytest.raises(InvalidRequest):
        Request.from_fields({"prompt": "cat", "image": str(path)})
    assert image_argument.with_images_read({"prompt": "cat"}) == {"prompt": "cat"}
