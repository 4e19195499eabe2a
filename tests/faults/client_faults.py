"""Faults of clients of the socket."""

import contextlib
import random
import socket
import struct
import time

from stablediffusiond.frames import Listen, encode_op
from tests.faults.service_under_test import ServiceUnderTest


def client_reset(service: ServiceUnderTest, _: random.Random) -> None:
    """The client breaks its connection in the middle of what comes, with replies unacked."""
    service.client.reader.reset()


def client_dies(service: ServiceUnderTest, rng: random.Random) -> None:
    """Another reader of the same queue takes some replies, acks none, and is gone with a reset."""
    with _second_reader(service) as stream:
        stream.settimeout(2)
        with contextlib.suppress(OSError):
            for _ in range(rng.randrange(1, 4)):
                stream.recv(rng.randrange(100, 20_000))
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def client_hangs(service: ServiceUnderTest, _: random.Random) -> None:
    """Another reader of the same queue stops reading, and keeps its connection until it is cut off."""
    with _second_reader(service) as stream:
        stream.settimeout(15)
        time.sleep(6)
        with contextlib.suppress(OSError):
            while stream.recv(65_536):
                pass


def _second_reader(service: ServiceUnderTest) -> "contextlib.AbstractContextManager[socket.socket]":
    """A socket that listens to the client's queue and has yet to read."""
    try:
        stream = socket.create_connection(("127.0.0.1", service.port), timeout=5)
    except OSError:
        return contextlib.closing(socket.socket())  # the daemon is down just now: this client has come too early
    with contextlib.suppress(OSError):
        stream.sendall(
            encode_op(Listen(queue=service.client.reader.queue, encoding="binary", ack="manual", prefetch=4))
        )
    return contextlib.closing(stream)
