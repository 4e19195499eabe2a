import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from stablediffusiond.engine import pictures
from stablediffusiond.engine.job import Pixels
from stablediffusiond.engine.pictures import encode_png, encode_preview, open_init_image
from stablediffusiond.errors import InvalidRequest, JobError, ModelError, OutOfMemory, TooLarge


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_three_formats_are_opened_and_resized(kind: str) -> None:
    made = open_init_image(encoded(Image.new("RGB", (30, 20), "red"), kind), 64, 128)
    assert (made.size, made.mode) == ((64, 128), "RGB")


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "1", "I;16"])
def test_other_modes_become_rgb(mode: str) -> None:
    assert open_init_image(encoded(Image.new(mode, (16, 16)), "PNG"), 16, 16).mode == "RGB"


def test_a_photograph_is_turned_upright() -> None:
    lying = Image.new("RGB", (32, 16), "black")
    lying.paste("white", (0, 0, 16, 16))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn a quarter clockwise
    upright = open_init_image(encoded(lying, "JPEG", exif=exif), 16, 32)
    assert upright.getpixel((8, 4)) == pytest.approx((255, 255, 255), abs=8)
    assert upright.getpixel((8, 28)) == pytest.approx((0, 0, 0), abs=8)


@pytest.mark.parametrize("data", [b"", b"not a picture", encoded(Image.new("RGB", (8, 8)), "GIF")])
def test_what_is_no_picture_of_ours_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidRequest, match="no PNG, JPEG or WebP"):
        open_init_image(data, 64, 64)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_broken_picture_is_refused(kind: str) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    whole = encoded(noise, kind)
    with pytest.raises(InvalidRequest, match="'image' is"):
        open_init_image(whole[: len(whole) // 2], 64, 64)


def test_a_bomb_is_not_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "MAX_INIT_PIXELS", 99)
    with pytest.raises(TooLarge, match="10x10 pixels"):
        open_init_image(encoded(Image.new("1", (10, 10)), "PNG"), 64, 64)


def test_a_bomb_beyond_pillows_own_limit_is_not_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)
    with pytest.raises(TooLarge, match="too many pixels"):
        open_init_image(encoded(Image.new("1", (10, 10)), "PNG"), 64, 64)


def test_the_same_pixels_are_the_same_bytes_and_nothing_is_lost() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (24, 16, 3), np.uint8)
    assert encode_png(pixels) == encode_png(pixels.copy())
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(encode_png(pixels)))), pixels)


@pytest.mark.parametrize("encode", [encode_png, encode_preview])
@pytest.mark.parametrize(("error", "told"), [(MemoryError(), OutOfMemory), (OSError("encoder error -2"), ModelError)])
def test_a_picture_that_cannot_be_encoded_is_its_jobs_affair(
    monkeypatch: pytest.MonkeyPatch, encode: Callable[[Pixels], bytes], error: Exception, told: type[JobError]
) -> None:
    def failing(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(Image.Image, "save", failing)
    with pytest.raises(told):
        encode(np.zeros((8, 8, 3), np.uint8))
