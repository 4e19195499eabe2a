"""What a picture in a request may cost: checked before the step that would have to pay for it.

Measured with Pillow 13 and files of up to 12 MB, the most that a request carries: a picture of 65 million pixels costs
up to 0.6 GB (WebP: 0.8 GB at 52 million) and about a second of one core; a photograph in JPEG, which is decoded at a
fraction of its size, 20 MB. Without the bounds on parts (``parts.py``), 12 MB of empty ones cost many minutes.
"""

from typing import Final

from PIL import Image

from stablediffusiond.errors import TooLarge
from stablediffusiond.pictures import parts

#: Beyond this nothing is decoded, however small its file is: phones have sensors of 64 million pixels.
MAX_PIXELS: Final = 65_000_000
#: libwebp holds three pictures at a time.
MAX_WEBP_PIXELS: Final = 52_000_000
#: Pillow reads run-length encoding byte by byte, in Python.
MAX_RLE_BYTES: Final = 1_000_000
_RLE: Final = (b"\1\0\0\0", b"\2\0\0\0")

#: What comes in place of a picture that is opened, by how it begins.
_OTHERS: Final = {
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"8BPS": "a document of Photoshop",
    b"<svg": "SVG",
    b"<?xml": "XML, perhaps SVG",
    b"%PDF": "PDF",
    b"%!PS": "PostScript",
}
_HEIC: Final = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1")


def check_file(data: bytes) -> None:
    """Raise TooLarge for a file that would cost too much before its decoder looks at its size."""
    if data.startswith(b"\x89PNG"):
        parts.count_png_chunks(data)
    elif data.startswith(b"\xff\xd8"):
        parts.count_jpeg_scans(data)
    elif data.startswith(b"GIF8"):
        parts.count_gif_blocks(data)
    elif data[:4] in {b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"}:
        parts.count_tiff_strips(data)
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        _check_size(_webp_size(data), MAX_WEBP_PIXELS)
    elif data.startswith(b"BM") and data[30:34] in _RLE and len(data) > MAX_RLE_BYTES:
        raise TooLarge(f"the image is a BMP of over {MAX_RLE_BYTES} bytes in run-length encoding", field="image")


def check_jpeg(size: tuple[int, int], data: bytes) -> None:
    """Raise TooLarge for a JPEG that libjpeg would hold as a whole, at any fraction at which it is decoded."""
    if parts.count_jpeg_scans(data) > 1:
        _check_size(size, MAX_PIXELS)


def check_decoded(picture: Image.Image) -> None:
    """Raise TooLarge for a picture that is about to be decoded at more pixels than any request needs."""
    _check_size(picture.size, MAX_PIXELS)


def too_many_pixels() -> TooLarge:
    return TooLarge(f"the image has too many pixels; at most {MAX_PIXELS} are opened", field="image")


def what_else(data: bytes) -> str:
    """What ``data`` is, for the error of a request with no picture; empty where that is not known."""
    if data[4:8] == b"ftyp" and data[8:12] in _HEIC:
        return ", but HEIC; save it as JPEG"
    for beginning, name in _OTHERS.items():
        if data.startswith(beginning):
            return f", but {name}"
    return ""


def _check_size(size: tuple[int, int], most: int) -> None:
    width, height = size
    if width * height > most:
        raise TooLarge(f"the image has {width}x{height} pixels; at most {most} are opened", field="image")


def _webp_size(data: bytes) -> tuple[int, int]:
    """Width and height by the file's first chunk: that of an extended file, of lossless or of lossy data."""

    def number(at: int, size: int) -> int:
        return int.from_bytes(data[at : at + size], "little")

    match data[12:16]:
        case b"VP8X":
            return number(24, 3) + 1, number(27, 3) + 1
        case b"VP8L":
            bits = number(21, 4)
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case _:
            return number(26, 2) & 0x3FFF, number(28, 2) & 0x3FFF
