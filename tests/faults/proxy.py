"""A TCP proxy before the broker that does what networks do: resets, silence, slowness, half a frame."""

import contextlib
import socket
import struct
import threading
import time
from types import TracebackType
from typing import Literal, Self

Direction = Literal["up", "down"]  #: to the broker, from the broker

_RESET = struct.pack("ii", 1, 0)
_POLL_SECONDS = 0.05


class Proxy:
    """``with Proxy(port) as proxy: ... proxy.port``; forwards until told otherwise, and again after ``heal``."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._lock = threading.Lock()
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._silent: frozenset[Direction] = frozenset()
        self._bytes_a_second: float | None = None
        self._latency_seconds = 0.0
        self._bytes_until_cut: int | None = None

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}/%2F"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self.heal()
        self.reset()

    @property
    def connections(self) -> int:
        return len(self._pairs)

    # Faults

    def reset(self) -> None:
        """End every connection with a RST to both sides."""
        with self._lock:
            pairs = list(self._pairs)
        for pair in pairs:
            _reset(pair)

    def silence(self, *directions: Direction) -> None:
        """Bring nothing any more in these directions, on old and new connections, and keep them open."""
        self._silent = frozenset(directions)

    def slow_down(self, bytes_a_second: float) -> None:
        self._bytes_a_second = bytes_a_second

    def delay(self, seconds: float) -> None:
        """Bring everything so much later."""
        self._latency_seconds = seconds

    def cut_after(self, count: int) -> None:
        """Reset the connection that brings the ``count``-th byte to the broker, counted from now."""
        self._bytes_until_cut = count

    def heal(self) -> None:
        """Forward as at the beginning. What was not forwarded stays lost: the connections it was on are reset."""
        dropped = bool(self._silent)
        self._silent, self._bytes_a_second, self._latency_seconds = frozenset(), None, 0.0
        self._bytes_until_cut = None
        if dropped:
            self.reset()

    # Threads

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                try:
                    upstream = socket.create_connection(("127.0.0.1", self._target_port), timeout=5)
                except OSError:
                    client.close()
                    continue
                upstream.settimeout(None)
                pair = (client, upstream)
                with self._lock:
                    self._pairs.add(pair)
                for source, sink, direction in ((client, upstream, "up"), (upstream, client, "down")):
                    threading.Thread(target=self._forward, args=(pair, source, sink, direction), daemon=True).start()

    def _forward(
        self,
        pair: tuple[socket.socket, socket.socket],
        source: socket.socket,
        sink: socket.socket,
        direction: Direction,
    ) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(16_384):
                if self._latency_seconds:
                    time.sleep(self._latency_seconds)
                if direction in self._silent:
                    continue
                if self._bytes_a_second:
                    time.sleep(len(data) / self._bytes_a_second)
                if direction == "up" and self._cuts(sink, data):
                    break
                sink.sendall(data)
        with self._lock:
            self._pairs.discard(pair)
        _reset(pair)

    def _cuts(self, sink: socket.socket, data: bytes) -> bool:
        """Send what comes before the cut, if there is one in ``data``."""
        with self._lock:
            left = self._bytes_until_cut
            if left is None:
                return False
            self._bytes_until_cut = None if left <= len(data) else left - len(data)
        if left > len(data):
            return False
        sink.sendall(data[: max(0, left - 1)])
        return True


def _reset(pair: tuple[socket.socket, socket.socket]) -> None:
    """Reset both, and wake the threads that read them."""
    for end in pair:
        with contextlib.suppress(OSError):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RD)
        with contextlib.suppress(OSError):
            end.close()
