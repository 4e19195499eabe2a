"""Files of pictures, made by hand where no encoder would make them."""

import io
import struct
import zlib
from collections.abc import Sequence

from PIL import Image

#: The most that a request carries, in base64.
MOST_BYTES = 12_000_000


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">L", len(data)) + kind + data + struct.pack(">L", zlib.crc32(kind + data))


def png(width: int, height: int, row: bytes, depth: int, colour: int, *chunks: bytes) -> bytes:
    """A PNG whose rows are all alike; ``colour`` is its type as PNG counts them."""
    head = chunk(b"IHDR", struct.pack(">LLBBBBB", width, height, depth, colour, 0, 0, 0))
    rows = zlib.compressobj(1)
    data = b"".join(rows.compress(b"\0" + row) for _ in range(height)) + rows.flush()
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def tiff(entries: Sequence[tuple[int, int, int, int]], data: bytes = b"") -> bytes:
    """A TIFF of one directory: (tag, type, count, value or offset)."""
    directory = b"".join(struct.pack("<HHLL", *entry) for entry in sorted(entries))
    return b"II*\0" + struct.pack("<LH", 8, len(entries)) + directory + b"\0\0\0\0" + data


def repeated(data: bytes, at: int, part: bytes, count: int | None = None) -> bytes:
    """``data`` with ``part`` put in so often that a request still carries it, or ``count`` times."""
    return data[:at] + part * (count or (MOST_BYTES - len(data)) // len(part)) + data[at:]


def profile(red: Sequence[float], green: Sequence[float], blue: Sequence[float]) -> bytes:
    """An ICC profile of a screen with these primaries (XYZ, as D50 sees them), and a gamma of 2.2."""

    def xyz(values: Sequence[float]) -> bytes:
        return b"XYZ \0\0\0\0" + struct.pack(">3l", *(round(value * 65536) for value in values))

    gamma = b"curv\0\0\0\0" + struct.pack(">LHH", 1, round(2.2 * 256), 0)
    text = b"text\0\0\0\0none\0\0\0\0"
    name = b"desc\0\0\0\0" + struct.pack(">L", 5) + b"test\0" + bytes(79)
    tags = {
        b"desc": name, b"cprt": text, b"wtpt": xyz((0.9642, 1, 0.8249)), b"rXYZ": xyz(red), b"gXYZ": xyz(green),
        b"bXYZ": xyz(blue), b"rTRC": gamma, b"gTRC": gamma, b"bTRC": gamma,
    }  # fmt: skip
    table, body = struct.pack(">L", len(tags)), b""
    for tag, data in tags.items():
        table += tag + struct.pack(">LL", 128 + 4 + 12 * len(tags) + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    size = 128 + len(table) + len(body)
    head = struct.pack(">L4xL4s4s4s12x4s", size, 0x02100000, b"mntr", b"RGB ", b"XYZ ", b"acsp").ljust(68, b"\0")
    return (head + struct.pack(">3l", 63190, 65536, 54061)).ljust(128, b"\0") + table + body
