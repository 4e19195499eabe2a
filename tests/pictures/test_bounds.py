"""What pictures in requests cost: photographs of 50 megapixels, and files of as many empty parts as a request carries.

Measured in processes of their own. The bounds have room for a slow machine: what was measured stands beside them.
"""

import io
import json
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from PIL import Image

from stablediffusiond.errors import JobError, TooLarge
from stablediffusiond.pictures import bounds, parts
from stablediffusiond.pictures.opening import open_init_image
from tests.pictures.files import MOST_BYTES, chunk, encoded, png, repeated, tiff

SIZE = (8192, 6144)  #: 50 megapixels
ROOT = Path(__file__).parents[2]


def prices(*files: Path) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "tests.pictures.price", *map(str, files)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=250, check=True)
    return [cast("dict[str, Any]", json.loads(line)) for line in done.stdout.splitlines()]


def plain(mode: str, colour: object = 0) -> Image.Image:
    return Image.new(mode, SIZE, cast("Any", colour))


#: Name -> how its file is made, and the megabytes and seconds of a core that it may cost; measured: the first two numbers.
LARGE: dict[str, tuple[Callable[[], bytes], int, int]] = {
    # 17 MB, 0.1 s
    "a photograph": (lambda: encoded(plain("RGB", (200, 10, 10)), "JPEG"), 80, 5),
    "a photograph in CMYK": (lambda: encoded(plain("CMYK", (0, 240, 240, 50)), "JPEG"), 80, 5),
    # 156 MB, 0.4 s
    "a progressive JPEG": (lambda: encoded(plain("RGB", (200, 10, 10)), "JPEG", progressive=True), 250, 10),
    # 203 MB, 0.3 s; 396 MB, 0.7 s; 444 MB, 0.6 s; 288 MB, 0.4 s; 203 MB
    "PNG": (lambda: png(*SIZE, b"\xc8\n\n" * SIZE[0], 8, 2), 350, 10),
    "PNG with alpha": (lambda: png(*SIZE, b"\xc8\n\n\x80" * SIZE[0], 8, 6), 550, 10),
    "PNG with a transparent colour": (
        lambda: png(*SIZE, b"\xc8\n\n" * SIZE[0], 8, 2, chunk(b"tRNS", b"\0\1\0\1\0\1")), 600, 10,
    ),
    "PNG of 16 bits": (lambda: png(*SIZE, b"\x80\0" * SIZE[0], 16, 0), 400, 10),
    "PNG of 16 bits of colour": (lambda: png(*SIZE, b"\x80\0\x10\0\x20\0" * SIZE[0], 16, 2), 350, 10),
    # 252 MB
    "GIF": (lambda: encoded(plain("P", 3), "GIF"), 350, 10),
    "BMP": (lambda: encoded(plain("1", 1), "BMP"), 350, 10),
    # 204 MB, 0.5 s
    "TIFF": (lambda: encoded(plain("RGB", (200, 10, 10)), "TIFF", compression="tiff_lzw"), 350, 10),
    # 770 MB, 0.9 s
    "WebP": (lambda: encoded(plain("RGB", (200, 10, 10)), "WEBP", lossless=True, method=0, quality=0), 1000, 10),
    # 442 MB, 0.6 s
    "AVIF": (lambda: encoded(plain("RGB", (200, 10, 10)), "AVIF", speed=10, quality=1), 650, 10),
}  # fmt: skip


@pytest.mark.parametrize("name", list(LARGE))
def test_fifty_megapixels_are_opened_at_a_bounded_price(name: str, tmp_path: Path) -> None:
    make, megabytes, seconds = LARGE[name]
    file = tmp_path / "picture"
    file.write_bytes(make())
    assert file.stat().st_size < MOST_BYTES
    [price] = prices(file)
    assert price["result"].startswith("("), price
    assert price["megabytes"] < megabytes, price
    assert price["seconds"] < seconds, price


def small(kind: str, mode: str = "RGB", **options: object) -> bytes:
    return encoded(Image.new(mode, (64, 64)), kind, **options)


def scans() -> bytes:
    """A progressive JPEG that goes on with empty scans."""
    whole = encoded(Image.new("RGB", (8000, 8000), "red"), "JPEG", progressive=True)
    last = whole[whole.rfind(b"\xff\xc4", 0, whole.rfind(b"\xff\xda")) : -2]
    return repeated(whole, len(whole) - 2, last)


def rle() -> bytes:
    head = bytearray(encoded(Image.new("P", (64, 64)), "BMP")[:1078])
    struct.pack_into("<L", head, 30, 1)
    return repeated(bytes(head), len(head), b"\0\0")


def strips(tag: int) -> bytes:
    count, at = 2_900_000, 8 + 2 + 10 * 12 + 4
    entries = [
        (256, 4, 1, 17_000), (257, 4, 1, 170), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (278, 3, 1, 1),
        (322, 3, 1, 1), (323, 3, 1, 1), (tag, 4, count, at), (tag + (6 if tag == 273 else 1), 4, count, at),
    ]  # fmt: skip
    return tiff(entries, struct.pack("<L", at) * count)


GIF = small("GIF", "P")
TABLE = 13 + (3 << (GIF[10] & 7) + 1)
ZTXT = chunk(b"zTXt", b"a\0\0" + zlib.compress(b"x" * 1_000_000, 9))
#: Files of up to 12 MB, all of them parts that say nothing, or that unfold to much.
MADE_OF_PARTS: dict[str, Callable[[], bytes]] = {
    "text chunks": lambda: repeated(small("PNG"), 33, chunk(b"tEXt", b"a\0b")),
    "compressed text": lambda: repeated(small("PNG"), 33, ZTXT),
    "unknown chunks": lambda: repeated(small("PNG"), 33, chunk(b"abCd", b"")),
    "empty data": lambda: repeated(small("PNG"), 33, chunk(b"IDAT", b"")),
    "JPEG comments": lambda: repeated(small("JPEG"), 2, b"\xff\xfe\0\2"),
    "JPEG segments": lambda: repeated(small("JPEG"), 2, b"\xff\xe3\0\2"),
    "JPEG profiles": lambda: repeated(small("JPEG"), 2, b"\xff\xe2\0\x11ICC_PROFILE\0\1\1x"),
    "JPEG padding": lambda: repeated(small("JPEG"), 2, b"\xff"),
    "JPEG scans": scans,
    "GIF comment": lambda: repeated(GIF, TABLE, b"\x21\xfe" + b"\1x" * 5_900_000 + b"\0", 1),
    "GIF extensions": lambda: repeated(GIF, TABLE, b"\x21\xfe\0"),
    "TIFF strips": lambda: strips(273),
    "TIFF tiles": lambda: strips(324),
    "TIFF tags": lambda: tiff([(tag, 3, 1, 1) for tag in range(256, 65_000)]),
    "EXIF tags": lambda: repeated(small("PNG"), 33, chunk(b"eXIf", tiff([(tag, 3, 1, 1) for tag in range(1, 65_000)])), 1),
    "EXIF fractions": lambda: repeated(
        small("PNG"), 33, chunk(b"eXIf", tiff([(50_000, 5, 1_400_000, 26)], b"\1\0\0\0" * 2_800_000)), 1
    ),
    "RIFF chunks": lambda: (
        lambda body: b"RIFF" + struct.pack("<L", len(body) + 4) + b"WEBP" + body
    )(b"VP8X" + struct.pack("<L", 10) + b"\0" * 4 + b"\x3f\0\0" * 2 + b"abcd\0\0\0\0" * 1_400_000 + small("WEBP")[12:]),
    "run-length encoding": rle,
    "a screen without a picture": lambda: GIF[:6] + b"\xff\xff\xff\xff" + GIF[10:],
    "a bomb": lambda: png(65_000, 65_000 // 8, b"\0" * 8125, 1, 0),
}  # fmt: skip


def test_parts_that_say_nothing_cost_next_to_nothing(tmp_path: Path) -> None:
    """Each is answered in less than two seconds (0.2 measured), and all of them need less than 150 MB (75 measured)."""
    files = []
    for name, make in MADE_OF_PARTS.items():
        file = tmp_path / name
        file.write_bytes(make())
        assert file.stat().st_size <= MOST_BYTES
        files.append(file)
    found = dict(zip(MADE_OF_PARTS, prices(*files), strict=True))
    assert len(found) == len(files)
    assert {name: price for name, price in found.items() if price["seconds"] > 2} == {}
    assert sum(price["megabytes"] for price in found.values()) < 150, found


def animated(kind: str, frames: int) -> bytes:
    out = io.BytesIO()
    pictures = [Image.new("RGB", (16, 16), (n % 251, n % 7, 9)) for n in range(frames)]
    pictures[0].save(out, kind, save_all=True, append_images=pictures[1:])
    return out.getvalue()


def test_of_thousands_of_frames_one_is_read(tmp_path: Path) -> None:
    files = []
    for kind, frames in (("GIF", 5000), ("PNG", 5000), ("WEBP", 5000), ("TIFF", 2000), ("AVIF", 300)):
        (tmp_path / kind).write_bytes(animated(kind, frames))
        files.append(tmp_path / kind)
    found = prices(*files)
    assert [price["result"][0] for price in found] == ["("] * len(files), found
    assert max(price["seconds"] for price in found) < 1, "0.02 measured"
    assert sum(price["megabytes"] for price in found) < 50, "12 measured"


def test_ten_thousand_texts_and_tags_are_no_hindrance() -> None:
    texts = repeated(small("PNG"), 33, chunk(b"tEXt", b"a\0b"), 10_000)
    tags = repeated(small("PNG"), 33, chunk(b"eXIf", tiff([(tag, 3, 1, 1) for tag in range(1, 10_000)])), 1)
    for file in (texts, tags):
        assert open_init_image(file, 64, 64).size == (64, 64)


@pytest.mark.parametrize(
    ("make", "most"),
    [
        (lambda n: repeated(small("PNG"), 33, chunk(b"abCd", b""), n - 3), parts.MAX_PARTS),
        (lambda n: repeated(GIF, TABLE, b"\x21\xfe\1x\0", n // 3), parts.MAX_PARTS),
        (lambda n: repeated(small("JPEG"), 2, b"\xff\xfe\0\2", n - 20), parts.MAX_PARTS),
    ],
    ids=["PNG", "GIF", "JPEG"],
)
def test_as_many_parts_as_there_may_be(make: Callable[[int], bytes], most: int) -> None:
    assert open_init_image(make(most), 64, 64).size == (64, 64)
    with pytest.raises(TooLarge, match=f"more than {most}"):
        open_init_image(make(most + 25), 64, 64)


def test_as_many_pixels_as_there_may_be() -> None:
    """Of one bit, which is the least that they cost."""
    assert open_init_image(png(8000, 8125, b"\xff" * 1000, 1, 0), 64, 64).getpixel((3, 3)) == (255, 255, 255)
    with pytest.raises(TooLarge, match=f"8000x8126 pixels; at most {bounds.MAX_PIXELS}"):
        open_init_image(png(8000, 8126, b"\xff" * 1000, 1, 0), 64, 64)


@pytest.mark.parametrize("options", [{"lossless": True}, {"lossless": False}, {"exif": b"Exif\0\0"}], ids=str)
def test_a_webp_says_its_size_before_its_decoder_makes_room(
    options: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = encoded(Image.new("RGB", (120, 80)), "WEBP", **options)
    assert open_init_image(file, 64, 64).size == (64, 64)
    monkeypatch.setattr(bounds, "MAX_WEBP_PIXELS", 9599)
    with pytest.raises(TooLarge, match="120x80 pixels"):
        open_init_image(file, 64, 64)


def test_a_jpeg_in_several_scans_counts_whole_however_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    once = encoded(Image.new("RGB", (1024, 768)), "JPEG")
    progressive = encoded(Image.new("RGB", (1024, 768)), "JPEG", progressive=True)
    assert (parts.count_jpeg_scans(once), parts.count_jpeg_scans(progressive)) == (1, 10)
    monkeypatch.setattr(bounds, "MAX_PIXELS", 500_000)
    assert open_init_image(once, 64, 64).size == (64, 64)
    with pytest.raises(TooLarge, match="1024x768 pixels"):
        open_init_image(progressive, 64, 64)


def test_what_follows_a_photograph_in_its_file_is_not_its_scans() -> None:
    """A phone's film, behind the end of its picture."""
    film = encoded(Image.new("RGB", (64, 64)), "JPEG") + b"\xff\xda\0\2" * 10_000
    assert open_init_image(film, 64, 64).size == (64, 64)


@pytest.mark.parametrize("cut", range(0, 700, 7))
def test_a_walk_through_a_truncated_file_ends(cut: int) -> None:
    for kind in ("PNG", "JPEG", "GIF", "TIFF", "WEBP"):
        try:
            open_init_image(small(kind, "P" if kind == "GIF" else "RGB")[:cut], 64, 64)
        except JobError as error:
            assert str(error)
