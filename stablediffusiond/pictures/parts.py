"""How many parts a picture's file has: walked through without reading them, and given up where there are too many.

A truncated file ends the walk early; the error of a broken file is the decoder's.
"""

import re
from typing import Final

from stablediffusiond.errors import TooLarge

#: Chunks of a PNG, blocks of a GIF, segments of a JPEG: real ones have tens, animated ones thousands.
MAX_PARTS: Final = 20_000
#: A progressive JPEG has about ten scans; each costs a walk over the whole picture, and an empty one a hundred bytes.
MAX_SCANS: Final = 100
#: Tags of a TIFF, which Pillow reads one by one, and its strips or tiles, of which it makes lists; one a row is usual.
MAX_TAGS: Final = 4_096
MAX_STRIPS: Final = 70_000

#: A JPEG's next marker; after compressed data, in which 0xFF stands before a zero or a restart, too.
_MARKER: Final = re.compile(rb"\xff")
_MARKER_AFTER_DATA: Final = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_START_OF_SCAN: Final = 0xDA
_END_OF_IMAGE: Final = 0xD9
#: Their offsets and lengths: the tags of a TIFF whose counts are theirs.
_STRIP_TAGS: Final = frozenset({273, 279, 324, 325})


def count_png_chunks(data: bytes) -> None:
    """Raise TooLarge for a PNG of too many chunks."""
    at = 8
    for _ in range(MAX_PARTS):
        at += 12 + int.from_bytes(data[at : at + 4])
        if at >= len(data):
            return
    raise _too_many(MAX_PARTS, "chunks of a PNG")


def count_gif_blocks(data: bytes) -> None:
    """Raise TooLarge for a GIF of too many blocks before its first picture."""
    flags = int.from_bytes(data[10:11])
    at = 13 + (3 << ((flags & 7) + 1) if flags & 0x80 else 0)
    in_extension = False
    for _ in range(MAX_PARTS):
        if at >= len(data):
            return
        if in_extension:
            in_extension = data[at] != 0
            at += 1 + data[at]
        elif data[at] == 0x2C:  # the picture
            return
        else:
            in_extension = data[at] == 0x21
            at += 2 if in_extension else 1
    raise _too_many(MAX_PARTS, "blocks of a GIF")


def count_jpeg_scans(data: bytes) -> int:
    """How many scans the picture in ``data`` comes in; with several, libjpeg holds all of it.

    Raises:
        TooLarge: too many of them, or too many segments.
    """
    at, scans = 2, 0
    for _ in range(MAX_PARTS):
        found = (_MARKER_AFTER_DATA if scans else _MARKER).search(data, at)
        if found is None:
            return scans
        at = found.start() + 1
        marker = int.from_bytes(data[at : at + 1])
        if marker == _END_OF_IMAGE:
            return scans
        scans += marker == _START_OF_SCAN
        if scans > MAX_SCANS:
            raise _too_many(MAX_SCANS, "scans of a JPEG")
        if 0xC0 <= marker < 0xFF and not 0xD0 <= marker <= 0xD8:
            at += 1 + int.from_bytes(data[at + 1 : at + 3])
    raise _too_many(MAX_PARTS, "segments of a JPEG")


def count_tiff_strips(data: bytes) -> None:
    """Raise TooLarge for a TIFF whose first picture has too many tags, strips or tiles."""
    order: Final = "little" if data[:1] == b"I" else "big"

    def number(at: int, size: int) -> int:
        return int.from_bytes(data[at : at + size], order)

    big = number(2, 2) == 43
    offset_bytes, entry = (8, 20) if big else (4, 12)
    directory = number(8, 8) if big else number(4, 4)
    tags = number(directory, 8 if big else 2)
    if tags > MAX_TAGS:
        raise _too_many(MAX_TAGS, "tags of a TIFF")
    first = directory + (8 if big else 2)
    for at in range(first, first + tags * entry, entry):
        if number(at, 2) in _STRIP_TAGS and number(at + 4, offset_bytes) > MAX_STRIPS:
            raise _too_many(MAX_STRIPS, "strips or tiles of a TIFF")


def _too_many(most: int, parts: str) -> TooLarge:
    return TooLarge(f"the image has more than {most} {parts}", field="image")
