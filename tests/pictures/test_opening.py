import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stablediffusiond.errors import InvalidRequest, OutOfMemory, TooLarge
from stablediffusiond.pictures import bounds, colours
from stablediffusiond.pictures.opening import FORMATS, NAMES, open_at, open_init_image
from tests.pictures.files import encoded, tiff


@pytest.mark.parametrize("kind", FORMATS)
def test_what_phones_cameras_and_editors_write_is_opened_and_resized(kind: str) -> None:
    made = open_init_image(encoded(Image.new("RGB", (30, 20), "red"), kind), 64, 128)
    assert (made.size, made.mode) == ((64, 128), "RGB")
    assert made.getpixel((30, 60)) == pytest.approx((255, 0, 0), abs=8)


def test_the_list_is_the_one_that_is_documented() -> None:
    assert {name.upper() for name in NAMES.replace(" or ", ", ").split(", ")} == set(FORMATS)
    assert NAMES.replace(" or ", " and ") in (Path(__file__).parents[2] / "docs/protocol.md").read_text("utf-8")


def test_a_phones_jpeg_of_several_pictures_is_its_first() -> None:
    """MPO: what the iPhone and Samsung write for depth and HDR."""
    out = io.BytesIO()
    photograph, depth = Image.new("RGB", (4096, 3072), "red"), Image.new("RGB", (64, 64), "blue")
    photograph.save(out, "MPO", save_all=True, append_images=[depth])
    assert open_init_image(out.getvalue(), 64, 48).getpixel((3, 3)) == pytest.approx((255, 0, 0), abs=8)


def lying(orientation: int) -> tuple[Image.Image, Image.Exif]:
    """A picture that is white on top and has a red corner on its left, once ``orientation`` is obeyed."""
    upright = Image.new("RGB", (64, 128), "black")
    upright.paste("white", (0, 0, 64, 64))
    upright.paste("red", (0, 0, 16, 16))
    back = {
        1: None, 2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_270,
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    return upright if back is None else upright.transpose(back), exif


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF"])
@pytest.mark.parametrize("size", [(64, 128), (32, 64)], ids=str)
def test_a_photograph_is_turned_upright(orientation: int, kind: str, size: tuple[int, int]) -> None:
    picture, exif = lying(orientation)
    asked: list[tuple[int, int]] = []

    def size_for(own: tuple[int, int]) -> tuple[int, int]:
        asked.append(own)
        return size

    made = open_at(encoded(picture, kind, exif=exif), size_for)
    assert asked == [(64, 128)]
    assert made.size == size
    scale = size[0] / 64
    for x, y, colour in ((8, 8, (255, 0, 0)), (48, 20, (255, 255, 255)), (20, 100, (0, 0, 0))):
        assert made.getpixel((int(x * scale), int(y * scale))) == pytest.approx(colour, abs=40)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_is_none_turns_nothing(orientation: int) -> None:
    picture, exif = lying(1)
    exif[0x0112] = orientation
    assert open_init_image(encoded(picture, "JPEG", exif=exif), 64, 128).getpixel((48, 20)) == pytest.approx(
        (255, 255, 255), abs=8
    )


HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", f"'image' is no {NAMES}"),
        (b"not a picture", f"'image' is no {NAMES}"),
        (HEIC, "but HEIC; save it as JPEG"),
        (b"\xff\x0a" + bytes(100), "but JPEG XL"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "but SVG"),
        (b"%PDF-1.7\n", "but PDF"),
        (b"8BPS\0\1" + bytes(100), "Photoshop"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n", "but PostScript"),
        (encoded(Image.new("RGB", (8, 8)), "ICO"), f"'image' is no {NAMES}"),
        (encoded(Image.new("RGB", (8, 8)), "PPM"), f"'image' is no {NAMES}"),
        (encoded(Image.new("RGB", (8, 8)), "JPEG2000"), "but JPEG 2000"),
    ],
    ids=range(11),
)
def test_what_is_not_opened_is_called_what_it_is(data: bytes, expected: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        open_init_image(data, 64, 64)
    assert expected in str(caught.value)
    assert caught.value.field == "image"


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("part", [0.98, 0.5, 0.1])
def test_a_broken_picture_is_refused(kind: str, part: float) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8))
    whole = encoded(noise.quantize() if kind == "GIF" else noise, kind)
    try:
        made = open_init_image(whole[: int(len(whole) * part)], 64, 64)
    except InvalidRequest as error:
        assert str(error).startswith("'image' is")
    else:
        assert made.size == (64, 64), "the end of an AVIF or a GIF may be missed by nobody"
        assert part > 0.9


def test_an_avif_that_its_library_cannot_make_sense_of_is_refused() -> None:
    whole = encoded(Image.new("RGB", (16, 16)), "AVIF")
    with pytest.raises(InvalidRequest, match="broken"):
        open_init_image(whole.replace(b"av1C", b"av1D"), 64, 64)


def test_more_pixels_than_anybody_needs_are_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "MAX_PIXELS", 99)
    with pytest.raises(TooLarge, match="10x10 pixels"):
        open_init_image(encoded(Image.new("1", (10, 10)), "PNG"), 64, 64)


def test_a_bomb_beyond_pillows_own_limit_is_not_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)
    with pytest.raises(TooLarge, match="too many pixels"):
        open_init_image(encoded(Image.new("1", (10, 10)), "PNG"), 64, 64)


def test_what_this_machine_cannot_hold_is_its_jobs_affair(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(colours, "resized", full)
    with pytest.raises(OutOfMemory, match="no memory for 'image'"):
        open_init_image(encoded(Image.new("1", (10, 10)), "PNG"), 64, 64)


def test_a_large_picture_is_the_same_as_a_small_one() -> None:
    """A JPEG that is decoded at a fraction of its size, and one that is not."""
    ramp = Image.linear_gradient("L").resize((4096, 2048)).convert("RGB")
    jpeg, whole = encoded(ramp, "JPEG", quality=95), encoded(ramp, "PNG")
    made = [np.asarray(open_init_image(each, 256, 128)).astype(int) for each in (jpeg, whole)]
    assert np.abs(made[0] - made[1]).max() <= 3


def test_the_smallest_of_pictures_are_pictures() -> None:
    for size in ((1, 1), (20_000, 1), (1, 20_000)):
        assert open_init_image(encoded(Image.new("RGB", size, "red"), "PNG"), 64, 64).getpixel((9, 9)) == (255, 0, 0)


def test_tiffs_of_another_order_and_of_64_bits_are_counted_as_they_are() -> None:
    for options in ({}, {"big_tiff": True}):
        open_init_image(encoded(Image.new("RGB", (64, 64)), "TIFF", **options), 64, 64)
    big_endian = Image.fromarray(np.full((16, 16), 7, ">u2"))
    assert encoded(big_endian, "TIFF").startswith(b"MM")
    open_init_image(encoded(big_endian, "TIFF"), 16, 16)
    with pytest.raises(InvalidRequest):
        open_init_image(tiff([]), 16, 16)


def test_the_smallest_png_of_the_web_is_opened() -> None:
    pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    assert open_init_image(base64.b64decode(pixel), 64, 64).size == (64, 64)
