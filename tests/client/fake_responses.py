"""The response daemon's socket as a test has it: what it says, and when, is scripted."""

import contextlib
import json
import queue
import socket
import threading
from dataclasses import dataclass, field
from typing import Any

from stablediffusiond import frames

PATIENCE_SECONDS = 20


@dataclass(eq=False)
class _Reply:
    number: int
    head: dict[str, object]
    data: bytes | None
    sent: bool = False


@dataclass
class _Reader:
    socket: socket.socket
    prefetch: int
    unacked: set[int] = field(default_factory=set)


class FakeResponses:
    """The response daemon's socket, with queues in memory that keep what is not acked."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self.listens: queue.Queue[dict[str, Any]] = queue.Queue()
        self.acks: queue.Queue[int] = queue.Queue()
        self._lock = threading.RLock()
        self._queues: dict[str, list[_Reply]] = {}
        self._readers: dict[str, _Reader] = {}
        self._numbers = 0
        #: Said in place of ``listening``.
        self.refusal: bytes | None = None
        #: Said before ``listening``, which follows when ``broker_is_back`` is set.
        self.first_error: bytes | None = None
        self.broker_is_back = threading.Event()
        self._threads: list[threading.Thread] = []
        self._start()

    def send(self, name: str, head: dict[str, object], data: bytes | None = None) -> int:
        """Put a reply into the queue ``name``; returns its delivery number."""
        with self._lock:
            self._numbers += 1
            self._queues.setdefault(name, []).append(_Reply(self._numbers, head, data))
            self._pump(name)
            return self._numbers

    def write(self, name: str, raw: bytes) -> None:
        """Write ``raw`` to the reader of ``name``, as it is."""
        self._readers[name].socket.sendall(raw)

    def unacked(self, name: str) -> list[int]:
        with self._lock:
            return [reply.number for reply in self._queues.get(name, [])]

    def cut(self) -> None:
        """End every connection."""
        with self._lock:
            for reader in self._readers.values():
                with contextlib.suppress(OSError):
                    reader.socket.shutdown(socket.SHUT_RDWR)

    def leave(self) -> None:
        """End every connection and take no new ones."""
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self.cut()
        for thread in self._threads:
            thread.join(PATIENCE_SECONDS)

    def come_back(self) -> None:
        self._server = socket.create_server(("127.0.0.1", self.port))
        self._start()

    def _start(self) -> None:
        thread = threading.Thread(target=self._accept, args=(self._server,))
        thread.start()
        self._threads = [thread]

    def _accept(self, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = server.accept()
                thread = threading.Thread(target=self._serve, args=(connection,))
                thread.start()
                self._threads.append(thread)

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as lines, contextlib.suppress(OSError):
            listen = json.loads(lines.readline())
            if self.refusal is not None:
                connection.sendall(self.refusal)
                return
            if self.first_error is not None:
                connection.sendall(self.first_error)
                self.broker_is_back.wait(PATIENCE_SECONDS)
            name = listen["queue"]
            with self._lock:
                connection.sendall(frames.encode({"type": "listening", "queue": name})[0])
                self._readers[name] = _Reader(connection, listen["prefetch"])
                self.listens.put(listen)
                self._pump(name)
            for line in lines:
                self._settle(name, json.loads(line))

    def _settle(self, name: str, op: dict[str, Any]) -> None:
        assert op["op"] == "ack"
        with self._lock:
            self._queues[name] = [reply for reply in self._queues[name] if reply.number != op["delivery"]]
            self._readers[name].unacked.discard(op["delivery"])
            self._pump(name)
        self.acks.put(op["delivery"])

    def _pump(self, name: str) -> None:
        """Send as much as the prefetch allows."""
        reader = self._readers.get(name)
        for reply in self._queues.get(name, []):
            if reader is None or len(reader.unacked) >= reader.prefetch:
                return
            if reply.number in reader.unacked:
                continue
            reader.unacked.add(reply.number)
            head = {**reply.head, "delivery": reply.number, "redelivered": reply.sent}
            reply.sent = True
            with contextlib.suppress(OSError):
                reader.socket.sendall(b"".join(frames.encode(head, reply.data, "binary")))
