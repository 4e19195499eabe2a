r"""EXIF with two texts in it: UserComment, where A1111 keeps its parameters, and MakerNote, which is the maker's own.

Written as piexif writes it for A1111: big-endian, the comment in UTF-16 behind ``UNICODE\0``. Read by offsets that are
checked, since Pillow reads each tag of a file that may have tens of thousands that overlap.
"""

import struct
from dataclasses import dataclass
from typing import Final

_EXIF_IFD: Final = 0x8769
_MAKER_NOTE: Final = 0x927C
_USER_COMMENT: Final = 0x9286
_LONG: Final = 4
_UNDEFINED: Final = 7
_HEADER: Final = b"Exif\0\0"
_UNICODE: Final = b"UNICODE\0"
_CODE_BYTES: Final = 8
#: Real ones have about fifty.
_MOST_TAGS: Final = 1_000


@dataclass(frozen=True)
class Exif:
    user_comment: str = ""
    maker_note: bytes = b""


def write(exif: Exif) -> bytes:
    """The block, with the header that it has in a JPEG; the same texts give the same bytes."""
    values = {_USER_COMMENT: _UNICODE + exif.user_comment.encode("utf-16-be", "replace")}
    if exif.maker_note:
        values = {_MAKER_NOTE: exif.maker_note, **values}
    first = struct.pack(">2sHI H HHII I", b"MM", 42, 8, 1, _EXIF_IFD, _LONG, 1, 26, 0)
    entries, data = b"", b""
    data_at = len(first) + 2 + 12 * len(values) + 4
    for tag, value in values.items():
        entries += struct.pack(">HHII", tag, _UNDEFINED, len(value), data_at + len(data))
        data += value + b"\0" * (len(value) % 2)
    return _HEADER + first + struct.pack(">H", len(values)) + entries + struct.pack(">I", 0) + data


def read(data: bytes) -> Exif:
    """The two texts in a block; empty where it has none.

    Raises:
        ValueError, struct.error: it is no EXIF, or ends too early.
    """
    tiff = memoryview(data.removeprefix(_HEADER).removeprefix(_HEADER))
    order = {b"MM": ">", b"II": "<"}.get(bytes(tiff[:2]))
    if order is None:
        raise ValueError("its EXIF has no byte order")
    (first,) = struct.unpack_from(order + "I", tiff, 4)
    (at,) = struct.unpack(order + "I", _values(tiff, order, first).get(_EXIF_IFD, b"\0\0\0\0")[:4])
    values = _values(tiff, order, at) if at else {}
    return Exif(_decoded(values.get(_USER_COMMENT, b""), order), values.get(_MAKER_NOTE, b""))


def _values(tiff: memoryview, order: str, at: int) -> dict[int, bytes]:
    """What is of interest in the directory at ``at``."""
    (count,) = struct.unpack_from(order + "H", tiff, at)
    if count > _MOST_TAGS:
        raise ValueError(f"its EXIF has more than {_MOST_TAGS} tags")
    found: dict[int, bytes] = {}
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        tag, kind, size, offset = struct.unpack_from(order + "HHII", tiff, entry)
        if tag == _EXIF_IFD:
            found[tag] = bytes(tiff[entry + 8 : entry + 12])
        elif tag in {_MAKER_NOTE, _USER_COMMENT} and kind in {1, 2, _UNDEFINED}:
            start = offset if size > 4 else entry + 8
            if start + size > len(tiff):
                raise ValueError("its EXIF is cut off")
            found[tag] = bytes(tiff[start : start + size])
    return found


def _decoded(comment: bytes, order: str) -> str:
    """The text of a UserComment, which begins with the name of its encoding; some writers leave that away."""
    code, text = comment[:_CODE_BYTES], comment[_CODE_BYTES:]
    if code == _UNICODE:
        # piexif writes it big-endian whatever the block is; others in the order of the block. ASCII tells.
        in_order, other = ("utf-16-be", "utf-16-le") if order == ">" else ("utf-16-le", "utf-16-be")
        both = text.decode(in_order, "replace"), text.decode(other, "replace")
        return max(both, key=lambda read: sum(char.isascii() and char.isprintable() for char in read)).rstrip("\0")
    if code in {b"ASCII\0\0\0", b"\0" * _CODE_BYTES}:
        comment = text
    return comment.decode("utf-8", "ignore").strip("\0 ")
