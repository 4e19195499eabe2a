"""Where fuzzing begins: good input of every kind, and the ways to be bad that are known by name."""

import functools
import struct

from tests.fuzz.image_seeds import files, images
from tests.fuzz.request_seeds import requests


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
    """Bodies of replies, ours and those of other programs."""
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
        "like": files,
    }[target]()  # fmt: skip
