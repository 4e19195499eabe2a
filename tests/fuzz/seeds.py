"""Where fuzzing begins: good input of every kind, and the ways to be bad that are known by name."""

import functools
import io
import json
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Final

from PIL import Image

from tests.pictures.files import profile

_A1111: Final = Path(__file__).parents[1] / "messages/a1111"


def requests() -> dict[str, bytes]:
    """Bodies of requests."""
    deep = 100_000
    return {
        "good": b'{"prompt": "cat", "steps": "20", "seed": -1, "W": 64, "height": 64, "n_iter": 2, "n_samples": 2}',
        "sampler": b'{"prompt": "cat", "sampler_name": "DPM++ 2M", "scheduler": "Karras", "plms": false}',
        "img2img": b'{"prompt": "cat", "init_images": ["aGVsbG8="], "strength": 0.5}',
        "nothing": b"",
        "no JSON": b"\x89PNG",
        "deep": b"[" * deep + b"]" * deep,
        "deep object": b'{"a":' * deep + b"1" + b"}" * deep,
        "deep, but not too deep to parse": b'{"prompt": ' + b"[" * 900 + b"]" * 900 + b"}",
        "deep plms": b'{"prompt": "x", "plms": ' + b"[" * 970 + b"]" * 970 + b"}",
        "many parts": b"[" + b"[]," * 5_000_000 + b"[]]",
        "huge number": b'{"prompt": "x", "seed": ' + b"9" * 4000 + b"}",
        "larger than Python reads": b'{"prompt": "x", "seed": ' + b"9" * 5000 + b"}",
        "huge number as text": json.dumps({"prompt": "x", "count": "9" * 4000}).encode(),
        "huge product": json.dumps({"prompt": "x", "n_iter": 10**4000, "n_samples": 10**4000}).encode(),
        "exponent": b'{"prompt": "x", "guidance_scale": 1e999, "deadline_seconds": 1e308}',
        "NaN": b'{"prompt": "x", "guidance_scale": NaN, "strength": -Infinity}',
        "half a pair": b'{"prompt": "x\\ud83d"}',
        "half a pair as id": b'{"prompt": "x", "id": "\\udc00"}',
        "half a pair as key": b'{"prompt": "x", "\\ud83d": 1}',
        "a whole pair": b'{"prompt": "\\ud83d\\ude00"}',
        "a key of a megabyte": json.dumps({"prompt": "x", "k" * 1_000_000: 1}).encode(),
        "a value of a megabyte": json.dumps(
            {"prompt": "x", "n_iter": "v" * 1_000_000, "plms": "v" * 1_000_000}
        ).encode(),
        "a sampler of a megabyte": json.dumps({"prompt": "x", "sampler": "v" * 1_000_000}).encode(),
        "a type of a megabyte": json.dumps({"prompt": "x", "type": "v" * 1_000_000}).encode(),
        "said twice": b'{"prompt": "cat", "prompt": "dog"}',
        "said twice alike": b'{"prompt": "cat", "prompt": "cat"}',
        "NUL": b'{"prompt": "\\u0000", "id": "a\\u0000b"}',
        "booleans": b'{"prompt": "x", "steps": true, "id": false}',
        "no base64": b'{"prompt": "x", "image": "/etc/passwd"}',
        "an address": b'{"prompt": "x", "image": "http://127.0.0.1/a.png"}',
        "a file": b'{"prompt": "x", "image": "file:///etc/passwd"}',
        "UTF-16": '{"prompt": "cat"}'.encode("utf-16"),
        "UTF-32": '{"prompt": "cat"}'.encode("utf-32-be"),
        "a mark before a name": b'{"\xef\xbb\xbfprompt": "\\ufeffcat", "prompt": "dog"}',
        "a seed of 64 bits": b'{"prompt": "x", "seed": 18446744073709551615, "count": 16}',
        "a seed as JavaScript has it": b'{"prompt": "x", "seed": 18446744073709552000}',
        "a seed with an exponent": b'{"prompt": "x", "seed": "1e999999999999"}',
        "a seed of a megabyte": json.dumps({"prompt": "x", "seed": "9" * 1_000_000}).encode(),
        "any seed": b'{"prompt": "x", "seed": "Random"}',
        "a model": b'{"prompt": "x", "model": "DOODLE.safetensors [0123abcd]", "models": ["doodle", 2]}',
        "a model of a megabyte": json.dumps({"prompt": "x", "sd_model_checkpoint": "v" * 1_000_000}).encode(),
        "base64 without padding": b'{"prompt": "x", "image": "iVBORw0KGgo"}',
        "base64 for URLs": b'{"prompt": "x", "image": "data:image/png;BASE64,iVBORw0KGgo_-A"}',
        "base64 with escapes": json.dumps({"prompt": "x", "image": "data:;base64," + "%2B" * 4_000_000}).encode(),
        "base64 of spaces": json.dumps({"prompt": "x", "image": "A " * 6_000_000}).encode(),
        "quotes": json.dumps({"prompt": "x", "image": "b'" + "\"'" * 1000}).encode(),
        "deep override_settings": b'{"prompt": "x", "override_settings": ' + b'{"a":' * 900 + b"1" + b"}" * 901,
        "many override_settings": json.dumps(
            {"prompt": "x", "override_settings": {f"save_{n}": n for n in range(20_000)}}
        ).encode(),
        "many scripts": json.dumps(
            {"prompt": "x", "alwayson_scripts": {f"{n}": {"args": [False] * 2} for n in range(10_000)}}
        ).encode(),
        "deep scripts": b'{"prompt": "x", "alwayson_scripts": {"a": {"args": ' + b"[" * 900 + b"]" * 900 + b"}}}",
        **{f"A1111: {file.stem}": file.read_bytes() for file in _A1111.glob("*.json")},
        "a byte order mark": b'\xef\xbb\xbf{"prompt": "cat"}',
    }


def images() -> dict[str, bytes]:
    """Init images, good and bad."""
    made = {f"{mode} {kind}": _image(mode, kind) for mode, kind in (
        ("RGB", "PNG"), ("RGBA", "PNG"), ("P", "PNG"), ("I;16", "PNG"), ("1", "PNG"), ("LA", "PNG"),
        ("RGB", "JPEG"), ("CMYK", "JPEG"), ("L", "JPEG"), ("RGB", "WEBP"), ("RGBA", "WEBP"),
        ("RGB", "AVIF"), ("RGBA", "AVIF"), ("P", "GIF"), ("RGB", "BMP"), ("1", "BMP"), ("P", "BMP"), ("RGB", "TIFF"),
        ("RGBA", "TIFF"), ("CMYK", "TIFF"), ("LAB", "TIFF"), ("YCbCr", "TIFF"), ("I;16", "TIFF"), ("I", "TIFF"),
        ("F", "TIFF"), ("1", "TIFF"), ("P", "TIFF"), ("PA", "TIFF"), ("RGB", "MPO"),
    )}  # fmt: skip
    png = made["RGB PNG"]
    return {
        **made,
        "1x1": _image("RGB", "PNG", (1, 1)),
        "20000x1": _image("RGB", "PNG", (20_000, 1)),
        "1x20000": _image("RGB", "PNG", (1, 20_000)),
        "turned by EXIF": _turned(),
        "EXIF that is none": _image("RGB", "JPEG", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff"),
        "EXIF whose orientation is no number": _image(
            "RGB", "JPEG", exif=b"Exif\x00\x00II*\x00" + struct.pack("<LHHHL4sL", 8, 1, 0x0112, 7, 2, b"ab", 0)
        ),
        "animated PNG": _animated("PNG"),
        "animated WEBP": _animated("WEBP"),
        "animated GIF": _animated("GIF"),
        "animated AVIF": _animated("AVIF"),
        "TIFF of several pages": _animated("TIFF"),
        "TIFF with LZW": _image("RGB", "TIFF", compression="tiff_lzw"),
        "TIFF with JPEG in it": _image("RGB", "TIFF", compression="jpeg"),
        "TIFF of 64 bits": _image("RGB", "TIFF", big_tiff=True),
        "progressive JPEG": _image("RGB", "JPEG", progressive=True),
        "a profile": _image("RGB", "PNG", icc_profile=profile((0.4, 0.2, 0), (0.4, 0.7, 0.1), (0.1, 0.1, 0.7))),
        "a profile that is none": _image("RGB", "WEBP", icc_profile=bytes(128)),
        "a profile of three channels for one": _image("L", "JPEG", icc_profile=profile((1, 0, 0), (0, 1, 0), (0, 0, 1))),
        "a profile of three channels for four": _image(
            "CMYK", "TIFF", icc_profile=profile((1, 0, 0), (0, 1, 0), (0, 0, 1))
        ),
        "one colour is transparent": _chunked(png, b"tRNS", b"\0\0" * 3),
        "transparency that is short": _chunked(png, b"tRNS", b"\0"),
        "a palette that is short": _chunked(made["P PNG"], b"tRNS", b"\0" * 300),
        "16 bits with a transparent grey": _chunked(made["I;16 PNG"], b"tRNS", b"\0\0"),
        "HEIC": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
        "WebP that says it is large": b"RIFF\x1a\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + b"\xff" * 6,
        "AVIF that is none": b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf" + bytes(64),
        "truncated": png[: len(png) // 2],
        "a head only": png[:33],
        "a bomb": bomb(20_000, 20_000),
        "a bomb within Pillow's limit": bomb(9_000, 9_000),
        "as large as is opened": bomb(8_000, 8_000),
        "a head that lies: larger": lying(png, 2**31 - 1, 2**31 - 1),
        "a head that lies: a little larger": lying(png, 64, 6_000),
        "a head that lies: no pixels": lying(png, 0, 0),
        "a text of a gigabyte": _chunked(png, b"zTXt", b"k\x00\x00" + zlib.compress(bytes(200_000_000), 9)),
        "a profile of a gigabyte": _chunked(png, b"iCCP", b"k\x00\x00" + zlib.compress(bytes(200_000_000), 9)),
        "SVG": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
        "ZIP": _zip(),
        "PDF": b"%PDF-1.7\n",
        "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n",
        "nothing": b"",
    }  # fmt: skip


def lines() -> dict[str, bytes]:
    """Lines from clients of the socket."""
    return {
        "listen": b'{"op":"listen","queue":"results.a","progress":true,"encoding":"binary","ack":"manual","prefetch":4}',
        "ack": b'{"op":"ack","delivery":1}',
        "cancel": b'{"op":"cancel","id":"x"}',
        "ping": b'{"op":"ping"}',
        "deep": b"[" * 60_000,
        "half a pair": b'{"op":"cancel","id":"\\ud800"}',
        "huge": b'{"op":"ack","delivery":' + b"9" * 5000 + b"}",
        "rubbish": bytes(range(256)),
    }


def replies() -> dict[str, bytes]:
    """Bodies of replies, ours and strangers'."""
    return {
        "done": b'{"id": "a", "images": 1, "queued_seconds": 0.4, "engine_seconds": 2.1, "total_seconds": 2.6}',
        "failed": b'{"id": "a", "error": {"code": "expired", "message": "late"}}',
        "deep": b"[" * 100_000,
        "deep, and closed": b'{"a":' * 900 + b"1" + b"}" * 900,
        "half a pair": b'{"id": "\\ud800"}',
        "NaN": b'{"id": NaN, "x": 1e999}',
        "it names a length": b'{"id": "a", "length": 100000}',
        "it brings data": b'{"id": "a", "data": "no base64"}',
    }


def frames() -> dict[str, bytes]:
    """What a client reads off the socket."""
    return {
        "listening": b'{"type":"listening","queue":"results.a"}\n',
        "a picture": b'{"type":"image","delivery":1,"length":4}\nabcd{"type":"done","id":"a","images":1}\n',
        "base64": b'{"type":"image","delivery":1,"data":"aGVsbG8="}\n',
        "no base64": b'{"type":"image","delivery":1,"data":"a"}\n',
        "half": b'{"type":"image","length":100}\nabc',
        "negative": b'{"length":-1}\nabc',
        "huge": b'{"length":99999999999999}\nabc',
        "true": b'{"length":true}\nabc',
        "deep": b"[" * 100_000 + b"\n",
    }


def tables() -> dict[str, bytes]:
    """Properties of messages, as AMQP writes them: the flag of headers, and a table."""
    nested = b""
    for _ in range(2_000):
        nested = b"\x01nF" + struct.pack(">L", len(nested)) + nested
    values = {
        "not a number": b"d" + struct.pack(">d", float("nan")),
        "infinity": b"f" + struct.pack(">f", float("inf")),
        "larger than any integer of AMQP": b"d" + struct.pack(">d", 1e300),
        "a moment past the end of time": b"T" + struct.pack(">Q", 2**63),
        "a moment that no clock knows": b"Ty-countd",
        "an unknown type": b"?",
        "a decimal": b"D\xff\x7f\xff\xff\xff",
        "a text that is none": b"S" + struct.pack(">L", 2) + b"\xff\xfe",
        "a fraction in a list": b"A" + struct.pack(">L", 9) + b"d" + struct.pack(">d", 1.5),
        "a long text": b"S" + struct.pack(">L", 120_000) + b"x" * 120_000,
        "a delivery count that is none": b"S" + struct.pack(">L", 1) + b"x",
    }
    tables = {name: b"\x10x-delivery-count" + value for name, value in values.items()}
    tables |= {"deep": nested, "a name that is none": b"\x02\xff\xfet\x01", "good": b"\x01ki\x00\x00\x00\x01"}
    tables["a long text of three bytes a letter"] = b"\x01kS" + struct.pack(">L", 130_800) + "漢".encode() * 43_600
    tables["10,000 headers"] = b"".join(b"\x05" + f"{number:05}".encode() + b"t\x01" for number in range(10_000))
    tables["10,000 headers that are large"] = b"".join(
        b"\x04" + f"{number:04}".encode() + b"l" + struct.pack(">q", -(2**62)) for number in range(9_300)
    )
    return {name: struct.pack(">HL", 1 << 13, len(table)) + table for name, table in tables.items()} | {
        "all of them": struct.pack(">H", 0xFFFC) + b"\x00\x00" + b"\x00" * 4 + b"\x02\x00" + b"\x02\xff\xfe" * 3 + b"\x011"
        + b"\x02\xff\xfe" + b"\xff" * 8 + b"\x02\xff\xfe" * 4,
        "long names that are none": struct.pack(">H", (1 << 15) | (1 << 10) | (1 << 9) | (1 << 7)) + b"\xff" * 256 * 4,
        "names that are none": struct.pack(">H", (1 << 15) | (1 << 9) | (1 << 7)) + b"\x02\xff\xfe" * 3,
    }  # fmt: skip


@functools.cache
def of(target: str) -> dict[str, bytes]:
    return {
        "request": requests, "image": images, "properties": tables, "reply": replies, "op": lines, "frame": frames,
    }[target]()  # fmt: skip


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
