"""Publishing with properties that no library would write, over a real connection."""

import struct
from typing import Final

import pika
from pika import exceptions

from tools.private_broker import PrivateBroker

_HEADERS_ONLY: Final = struct.pack(">H", pika.BasicProperties.FLAG_HEADERS)


class Raw(pika.BasicProperties):
    """Properties that are ``encoded`` already."""

    def __init__(self, encoded: bytes) -> None:
        super().__init__()
        self._encoded = encoded

    def encode(self) -> list[bytes]:
        return [self._encoded]


class RawPublisher:
    """``with RawPublisher(broker) as raw: raw.put("results", seeds.tables()["deep"], b"body")``."""

    def __init__(self, broker: PrivateBroker) -> None:
        self._parameters = pika.URLParameters(broker.url)
        self._open()

    def put(self, queue: str, encoded: bytes, body: bytes) -> bool:
        """Whether the broker takes it; if not, it ends the connection, and another is made."""
        try:
            self._channel.basic_publish("", queue, body, Raw(encoded), mandatory=True)
        except exceptions.ConnectionClosedByBroker:
            self._open()
            return False
        return True

    def close(self) -> None:
        self._connection.close()

    def _open(self) -> None:
        self._connection = pika.BlockingConnection(self._parameters)
        self._channel = self._connection.channel()
        self._channel.confirm_delivery()


def as_image(encoded: bytes) -> bytes:
    """The same headers in a message that says it is an image; other properties than headers stay as they are."""
    if not encoded.startswith(_HEADERS_ONLY):
        return encoded
    flags = pika.BasicProperties.FLAG_HEADERS | pika.BasicProperties.FLAG_TYPE
    return struct.pack(">H", flags) + encoded[len(_HEADERS_ONLY) :] + b"\x05image"
