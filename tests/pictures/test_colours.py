"""What a picture looks like once it is opened: transparency, sixteen bits, inks, palettes, profiles."""

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageCms

from stablediffusiond.pictures.opening import open_init_image
from tests.pictures.files import chunk, encoded, png, profile

WHITE = (255, 255, 255)
SIZES = [(16, 16), (8, 8), (64, 64), (64, 128)]  #: its own, smaller, larger, squeezed


def colours_of(picture: Image.Image) -> set[tuple[int, ...]]:
    return set(map(tuple, np.asarray(picture).reshape(-1, 3).tolist()))


def clear(mode: str) -> Image.Image:
    """A picture that is transparent all over, with a red or a grey hidden under it."""
    return Image.new(mode, (16, 16), (200, 10, 10, 0) if mode == "RGBA" else (90, 0))


def palette(colour: tuple[int, int, int] = (200, 10, 10)) -> Image.Image:
    made = Image.new("P", (16, 16), 3)
    made.putpalette([0, 0, 0] * 3 + list(colour) + [0, 0, 0] * 252)
    return made


CLEAR = {
    **{f"RGBA {kind}": encoded(clear("RGBA"), kind, **lossless) for kind, lossless in (
        ("PNG", {}), ("WEBP", {"lossless": True}), ("AVIF", {}), ("TIFF", {}), ("GIF", {}),
    )},
    **{f"LA {kind}": encoded(clear("LA"), kind) for kind in ("PNG", "WEBP", "TIFF")},
    "P PNG": encoded(palette(), "PNG", transparency=3),
    "P PNG by bytes": encoded(palette(), "PNG", transparency=bytes([255, 255, 255, 0])),
    "P GIF": encoded(palette(), "GIF", transparency=3),
    "RGB PNG": png(16, 16, bytes([200, 10, 10]) * 16, 8, 2, chunk(b"tRNS", struct.pack(">HHH", 200, 10, 10))),
    "L PNG": png(16, 16, bytes([90]) * 16, 8, 0, chunk(b"tRNS", struct.pack(">H", 90))),
    "1 PNG": png(16, 16, b"\0\0", 1, 0, chunk(b"tRNS", struct.pack(">H", 0))),
    "L PNG of 16 bits": png(16, 16, b"\x12\x34" * 16, 16, 0, chunk(b"tRNS", b"\x12\x34")),
    "RGB PNG of 16 bits": png(16, 16, b"\xff\x00\x12\x34\0\0" * 16, 16, 2, chunk(b"tRNS", b"\xff\x00\x12\x34\0\0")),
    "RGBA PNG of 16 bits": png(16, 16, b"\xff\x00\x12\x34\0\0\0\0" * 16, 16, 6),
    "LA PNG of 16 bits": png(16, 16, b"\x12\x34\0\0" * 16, 16, 4),
}  # fmt: skip


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", list(CLEAR))
def test_what_is_transparent_lies_on_white_at_every_size(name: str, size: tuple[int, int]) -> None:
    made = open_init_image(CLEAR[name], *size)
    assert made.mode == "RGB"
    assert made.size == size
    assert colours_of(made) == {WHITE}


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_what_is_half_transparent_is_half_white(size: tuple[int, int]) -> None:
    made = open_init_image(encoded(Image.new("RGBA", (16, 16), (0, 0, 0, 128)), "PNG"), *size)
    assert made.getpixel((4, 4)) == pytest.approx((127, 127, 127), abs=1)


def test_colours_that_lie_hidden_do_not_bleed_into_what_is_seen() -> None:
    picture = Image.new("RGBA", (64, 64), (0, 255, 0, 0))  # green, where nothing is seen
    picture.paste((0, 0, 0, 255), (0, 0, 32, 64))
    made = open_init_image(encoded(picture, "PNG"), 24, 24)
    for red, green, blue in colours_of(made):
        assert red == green == blue


@pytest.mark.parametrize("grey", [0, 0x1234, 0x8000, 0xFF00, 0xFFFF])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_sixteen_bits_of_grey_keep_their_upper_eight(grey: int, size: tuple[int, int]) -> None:
    little = Image.fromarray(np.full((16, 16), grey, "<u2"))
    big = Image.fromarray(np.full((16, 16), grey, ">u2"))
    wide = Image.fromarray(np.full((16, 16), grey, "i4"))
    files = [encoded(little, "PNG"), encoded(little, "TIFF"), encoded(big, "TIFF"), encoded(wide, "TIFF")]
    files.append(encoded(little, "TIFF", compression="tiff_lzw"))
    for file in files:
        assert open_init_image(file, *size).getpixel((3, 3)) == (grey >> 8,) * 3


def test_a_ramp_of_sixteen_bits_has_256_levels() -> None:
    ramp = Image.fromarray(np.arange(65536, dtype="<u2").reshape(256, 256))
    made = np.asarray(open_init_image(encoded(ramp, "PNG"), 256, 256))
    assert np.array_equal(made[:, :, 0], np.arange(65536).reshape(256, 256) >> 8)


def test_sixteen_bits_of_colour() -> None:
    row = struct.pack(">HHH", 0x8234, 0x1234, 0xF000) * 16
    assert open_init_image(png(16, 16, row, 16, 2), 16, 16).getpixel((3, 3)) == (0x82, 0x12, 0xF0)


def test_floating_point_is_white_at_1() -> None:
    pixels = np.array([[0, 0.5, 1, 2, -1, np.nan, np.inf, 0.25]], "f4").repeat(8, 0)
    made = open_init_image(encoded(Image.fromarray(pixels), "TIFF"), 8, 8)
    assert [made.getpixel((x, 0)) for x in range(5)] == [(0, 0, 0), (127, 127, 127), WHITE, WHITE, (0, 0, 0)]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I", "F", "I;16"])
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG", "WEBP", "GIF", "BMP", "AVIF"])
def test_whatever_pillow_writes_becomes_rgb(mode: str, kind: str) -> None:
    try:
        file = encoded(Image.new(mode, (16, 16)), kind)
    except (OSError, ValueError):
        return  # the format has no such mode
    assert open_init_image(file, 24, 24).mode == "RGB"


def test_inks_on_paper() -> None:
    for kind in ("JPEG", "TIFF"):
        made = open_init_image(encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), kind), 16, 16)
        assert made.getpixel((3, 3)) == pytest.approx((255, 0, 0), abs=4)


def test_lab() -> None:
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    picture = ImageCms.profileToProfile(Image.new("RGB", (16, 16), (200, 30, 40)), srgb, lab, outputMode="LAB")
    assert picture is not None
    assert open_init_image(encoded(picture, "TIFF"), 16, 16).getpixel((3, 3)) == pytest.approx((200, 30, 40), abs=3)


#: sRGB's primaries, as D50 sees them.
RED, GREEN, BLUE = (0.4360, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_a_profile_is_obeyed(kind: str, mode: str) -> None:
    if kind == "JPEG":
        mode = "RGB"
    swapped = profile(GREEN, RED, BLUE)
    red = Image.new(mode, (16, 16), (250, 5, 5, 255)[: len(mode)])
    made = open_init_image(encoded(red, kind, icc_profile=swapped), 16, 16)
    assert made.getpixel((3, 3)) == pytest.approx((5, 250, 5), abs=12)


def test_a_wide_profile_makes_colours_stronger() -> None:
    wide = profile((0.609, 0.311, 0.019), (0.205, 0.626, 0.061), (0.149, 0.063, 0.745))  # Adobe RGB
    made = open_init_image(encoded(Image.new("RGB", (16, 16), (200, 60, 60)), "PNG", icc_profile=wide), 16, 16)
    [(red, green, _)] = colours_of(made)
    assert red > 215
    assert green < 60


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK", "RGBA"])
@pytest.mark.parametrize(
    "broken", [b"", b"x", bytes(128), profile(RED, GREEN, BLUE)[:200], profile(RED, GREEN, BLUE) + bytes(5_000_000)],
    ids=["empty", "short", "zeros", "cut", "huge"],
)  # fmt: skip
def test_a_profile_that_cannot_be_used_is_not(mode: str, broken: bytes) -> None:
    grey = Image.new("RGB", (16, 16), (120, 120, 120)).convert(mode)
    file = encoded(grey, "TIFF", icc_profile=broken)
    assert open_init_image(file, 16, 16).getpixel((3, 3)) == pytest.approx((120, 120, 120), abs=2)


def test_a_profile_for_another_kind_of_picture_is_not_used() -> None:
    file = encoded(Image.new("L", (16, 16), 120), "JPEG", icc_profile=profile(GREEN, RED, BLUE))
    assert open_init_image(file, 16, 16).getpixel((3, 3)) == pytest.approx((120, 120, 120), abs=2)


def test_the_first_picture_of_an_animation_is_the_one() -> None:
    pictures = [Image.new("RGB", (16, 16), colour) for colour in ("red", "lime", "blue")]
    for kind in ("GIF", "PNG", "WEBP", "TIFF", "AVIF"):
        out = io.BytesIO()
        pictures[0].save(out, kind, save_all=True, append_images=pictures[1:])
        assert open_init_image(out.getvalue(), 16, 16).getpixel((3, 3)) == pytest.approx((255, 0, 0), abs=8)
