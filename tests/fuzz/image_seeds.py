"""Pictures that come with requests, good and bad."""

import io
import struct
import zipfile
import zlib
from functools import cache

import numpy as np
from PIL import Image

from stablediffusiond.picture_formats import Format
from stablediffusiond.pictures.encoding import encode
from stablediffusiond.pictures.metadata import Metadata
from tests.pictures.files import profile


def images() -> dict[str, bytes]:
    """Init images, good and bad."""
    modes = _modes()
    return modes | _shapes() | _kinds() | _colours(modes) | _broken(modes["RGB PNG"]) | _others()


def files() -> dict[str, bytes]:
    """Pictures that say how they were drawn, or what looks like it."""
    text = "a cat\nNegative prompt: dog\nSteps: 7, Sampler: Euler a, Seed: 1, Size: 512x512, RNG: CPU, Model hash: 9"
    request = '{"prompt": "cat", "seed": 1, "loras": [{"name": "ink"}], "image": "sha256:9"}'
    lines = {
        "keys": "cat\n" + ", ".join(f"key {number}: {number}" for number in range(50_000)),
        "no end of a key": "a " * 400_000,
        "no end of a text": 'ab:"' * 200_000,
        "colons": ":" * 800_000,
        "escapes": 'ab: "' + '\\"' * 400_000,
        "long numbers": f"cat\nSteps: {'9' * 9000}, Seed: {'9' * 9000}, CFG scale: 1e{'9' * 9000}, Size: {'9' * 999}x9",
    }
    made = {name: Metadata(line) for name, line in lines.items()}
    made |= {
        "deep": Metadata(request="[" * 100_000), "deep, and closed": Metadata(request='{"a":' * 900 + "1" + "}" * 900),
        "many LoRAs": Metadata(request='{"prompt": "cat", "loras": [' + '"ink",' * 100_000 + '"ink"]}'),
        "unknown fields": Metadata(request="{" + ",".join(f'"{n}": 1' for n in range(40_000)) + "}"),
    }  # fmt: skip
    pixels = np.zeros((8, 8, 3), np.uint8)
    formats: tuple[Format, ...] = ("png", "jpeg", "webp")
    good = {each: encode(pixels, each, None, Metadata(text, request)) for each in formats}
    theirs = {f"a text in a {each}": encode(pixels, each, None, Metadata(text)) for each in formats}
    return good | theirs | {name: encode(pixels, "png", None, each) for name, each in made.items()}


def _modes() -> dict[str, bytes]:
    """Every mode in every format that has it."""
    return {f"{mode} {kind}": _image(mode, kind) for mode, kind in (
        ("RGB", "PNG"), ("RGBA", "PNG"), ("P", "PNG"), ("I;16", "PNG"), ("1", "PNG"), ("LA", "PNG"),
        ("RGB", "JPEG"), ("CMYK", "JPEG"), ("L", "JPEG"), ("RGB", "WEBP"), ("RGBA", "WEBP"),
        ("RGB", "AVIF"), ("RGBA", "AVIF"), ("P", "GIF"), ("RGB", "BMP"), ("1", "BMP"), ("P", "BMP"), ("RGB", "TIFF"),
        ("RGBA", "TIFF"), ("CMYK", "TIFF"), ("LAB", "TIFF"), ("YCbCr", "TIFF"), ("I;16", "TIFF"), ("I", "TIFF"),
        ("F", "TIFF"), ("1", "TIFF"), ("P", "TIFF"), ("PA", "TIFF"), ("RGB", "MPO"),
    )}  # fmt: skip


def _kinds() -> dict[str, bytes]:
    """Several pictures in a file, and several ways to compress one."""
    return {
        "animated PNG": _animated("PNG"),
        "animated WEBP": _animated("WEBP"),
        "animated GIF": _animated("GIF"),
        "animated AVIF": _animated("AVIF"),
        "TIFF of several pages": _animated("TIFF"),
        "TIFF with LZW": _image("RGB", "TIFF", compression="tiff_lzw"),
        "TIFF with JPEG in it": _image("RGB", "TIFF", compression="jpeg"),
        "TIFF of 64 bits": _image("RGB", "TIFF", big_tiff=True),
        "progressive JPEG": _image("RGB", "JPEG", progressive=True),
    }


def _colours(modes: dict[str, bytes]) -> dict[str, bytes]:
    """Transparency and profiles."""
    png = modes["RGB PNG"]
    return {
        "a profile": _image("RGB", "PNG", icc_profile=profile((0.4, 0.2, 0), (0.4, 0.7, 0.1), (0.1, 0.1, 0.7))),
        "a profile that is none": _image("RGB", "WEBP", icc_profile=bytes(128)),
        "a profile of three channels for one": _image(
            "L", "JPEG", icc_profile=profile((1, 0, 0), (0, 1, 0), (0, 0, 1))
        ),
        "a profile of three channels for four": _image(
            "CMYK", "TIFF", icc_profile=profile((1, 0, 0), (0, 1, 0), (0, 0, 1))
        ),
        "one colour is transparent": _chunked(png, b"tRNS", b"\0\0" * 3),
        "transparency that is short": _chunked(png, b"tRNS", b"\0"),
        "a palette that is short": _chunked(modes["P PNG"], b"tRNS", b"\0" * 300),
        "16 bits with a transparent grey": _chunked(modes["I;16 PNG"], b"tRNS", b"\0\0"),
    }


def _shapes() -> dict[str, bytes]:
    """Sizes, and how a picture lies."""
    return {
        "1x1": _image("RGB", "PNG", (1, 1)),
        "20000x1": _image("RGB", "PNG", (20_000, 1)),
        "1x20000": _image("RGB", "PNG", (1, 20_000)),
        "turned by EXIF": _turned(),
        "EXIF that is none": _image("RGB", "JPEG", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff"),
        "EXIF whose orientation is no number": _image(
            "RGB", "JPEG", exif=b"Exif\x00\x00II*\x00" + struct.pack("<LHHHL4sL", 8, 1, 0x0112, 7, 2, b"ab", 0)
        ),
    }


def _broken(png: bytes) -> dict[str, bytes]:
    """What is cut off, lies or unfolds."""
    return {
        "truncated": png[: len(png) // 2],
        "a head only": png[:33],
        "a bomb": bomb(20_000, 20_000),
        "a bomb within Pillow's limit": bomb(9_000, 9_000),
        "as large as is opened": bomb(8_000, 8_000),
        "a head that lies: larger": lying(png, 2**31 - 1, 2**31 - 1),
        "a head that lies: a little larger": lying(png, 64, 6_000),
        "a head that lies: no pixels": lying(png, 0, 0),
        "a text of a gigabyte": _chunked(png, b"zTXt", b"k\x00\x00" + _large()),
        "a profile of a gigabyte": _chunked(png, b"iCCP", b"k\x00\x00" + _large()),
        "nothing": b"",
    }


def _others() -> dict[str, bytes]:
    """What is no picture that is opened."""
    return {
        "HEIC": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
        "WebP that says it is large": b"RIFF\x1a\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + b"\xff" * 6,
        "AVIF that is none": b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf" + bytes(64),
        "SVG": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
        "ZIP": _zip(),
        "PDF": b"%PDF-1.7\n",
        "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n",
    }


@cache
def _large() -> bytes:
    """200 MB of noughts, packed; at its best zlib takes a second for them, and this is made at import."""
    return zlib.compress(bytes(200_000_000), 1)


def bomb(width: int, height: int) -> bytes:
    """A small PNG of many pixels, all black."""
    rows = zlib.compressobj(9)
    row = bytes(1 + (width + 7) // 8)
    data = b"".join(rows.compress(row * 100) for _ in range(height // 100)) + rows.flush()
    return _png(width, height, data, depth=1, colour=0)


def lying(png: bytes, width: int, height: int) -> bytes:
    """``png`` with another size in its head, and a checksum that says so too."""
    head = b"IHDR" + struct.pack(">LL", width, height) + png[24:29]
    return png[:12] + head + struct.pack(">L", zlib.crc32(head)) + png[33:]


def _png(width: int, height: int, data: bytes, depth: int, colour: int) -> bytes:
    head = struct.pack(">LLBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">L", len(data)) + kind + data + struct.pack(">L", zlib.crc32(kind + data))


def _chunked(png: bytes, kind: bytes, data: bytes) -> bytes:
    """``png`` with one more chunk after its head."""
    return png[:33] + _chunk(kind, data) + png[33:]


def _image(mode: str, kind: str, size: tuple[int, int] = (24, 16), **options: object) -> bytes:
    out = io.BytesIO()
    Image.new(mode, size).save(out, kind, **options)
    return out.getvalue()


def _turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return _image("RGB", "JPEG", exif=exif)


def _animated(kind: str) -> bytes:
    out = io.BytesIO()
    pictures = [Image.new("RGB", (16, 16), (shade, 0, 0)) for shade in range(0, 250, 50)]
    pictures[0].save(out, kind, save_all=True, append_images=pictures[1:])
    return out.getvalue()


def _zip() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("cat.png", b"meow")
    return out.getvalue()
