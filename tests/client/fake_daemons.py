"""Both daemons as a test sees them: requests are taken from a real broker, replies go out of a scripted socket."""

import asyncio
import contextlib
import io
import json
import queue
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pika
import PIL.Image

from stablediffusiond import frames
from stablediffusiond.broker.connection import Connection
from stablediffusiond.broker.topology import Topology, declare
from stablediffusiond.settings import BrokerSettings, Settings

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
        self.trouble: bytes | None = None
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
            if self.trouble is not None:
                connection.sendall(self.trouble)
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


@dataclass
class TakenRequest:
    """A request as the broker gave it to the daemon."""

    properties: pika.BasicProperties
    fields: dict[str, Any]

    @property
    def id(self) -> str:
        return str(self.properties.message_id)

    @property
    def reply_to(self) -> str:
        return str(self.properties.reply_to)


class FakeDaemons:
    """The request daemon's side of the broker, and the socket that its answers leave by."""

    def __init__(self, settings: Settings, responses: FakeResponses) -> None:
        self.settings = settings
        self.responses = responses
        self._drawn: dict[str, set[int]] = {}
        self.topology = Topology(settings.queues.requests, settings.queues.results)
        asyncio.run(_declare(settings.broker, self.topology))
        self._connection = pika.BlockingConnection(pika.URLParameters(settings.broker.url.get_secret_value()))
        self.channel = self._connection.channel()
        self._consumers: dict[str, Any] = {}

    def close(self) -> None:
        channel = self._connection.channel()
        for each in self.topology.queues():
            channel.queue_delete(each.name)
        channel.exchange_delete(self.topology.control)
        channel.exchange_delete(self.topology.events)
        self._connection.close()

    def take(self, queue: str | None = None) -> TakenRequest:
        """The next request; waits for it."""
        name = queue or self.topology.requests
        if name not in self._consumers:
            channel = self._connection.channel()
            self._consumers[name] = channel, channel.consume(name, inactivity_timeout=PATIENCE_SECONDS)
        channel, deliveries = self._consumers[name]
        method, properties, body = next(deliveries)
        assert method is not None, f"no request came to {name}"
        channel.basic_ack(method.delivery_tag)
        return TakenRequest(properties, json.loads(body))

    def waiting(self, queue: str | None = None) -> int:
        """Messages in the queue."""
        answer = self.channel.queue_declare(queue or self.topology.requests, passive=True)
        return int(answer.method.message_count)

    def draw(self, request: TakenRequest, *indices: int, count: int | None = None) -> list[int]:
        """Send pictures of ``request``; returns their delivery numbers."""
        images = count or request.fields.get("count", 1)
        self._drawn.setdefault(request.id, set()).update(indices)
        return [
            self.responses.send(request.reply_to, image_head(request, index, images), png(index)) for index in indices
        ]

    def finish(self, request: TakenRequest) -> int:
        return self.responses.send(request.reply_to, done_head(request.id, len(self._drawn.get(request.id, ()))))

    def fail(self, request: TakenRequest, code: str = "out_of_memory", message: str = "too little memory") -> int:
        head: dict[str, object] = {"type": "failed", "id": request.id, "error": {"code": code, "message": message}}
        return self.responses.send(request.reply_to, head)

    def progress(self, request: TakenRequest, step: int, steps: int) -> None:
        """Written at once and never acked, as the response daemon does it."""
        head = {"type": "progress", "id": request.id, "step": step, "steps": steps}
        self.responses.write(request.reply_to, frames.encode(head)[0])


def image_head(request: TakenRequest, index: int, count: int) -> dict[str, object]:
    seed = request.fields["seed"] + index
    return {
        "type": "image", "correlation_id": request.id, "content_type": "image/png", "id": request.id, "index": index,
        "count": count, "job_type": "txt2img", "prompt": request.fields.get("prompt", ""), "negative_prompt": "",
        "seed": seed, "width": 8, "height": 8, "steps": 50, "guidance_scale": "7.5", "sampler": "DDIM", "eta": "0.0",
        "model": "doodle",
    }  # fmt: skip


def done_head(job_id: str, images: int) -> dict[str, object]:
    seconds = {"queued_seconds": 0.1, "engine_seconds": 0.2, "total_seconds": 0.3}
    return {"type": "done", "id": job_id, "images": images, **seconds}


def png(index: int) -> bytes:
    """An 8 by 8 picture whose red tells its index."""
    file = io.BytesIO()
    PIL.Image.new("RGB", (8, 8), (index, 0, 0)).save(file, "PNG")
    return file.getvalue()


async def _declare(settings: BrokerSettings, topology: Topology) -> None:
    connection = await Connection.open(settings, "a test")
    await declare(connection, topology)
    await connection.close()


@contextlib.contextmanager
def fake_daemons(settings: Settings, responses: FakeResponses) -> Iterator[FakeDaemons]:
    daemons = FakeDaemons(settings, responses)
    try:
        yield daemons
    finally:
        daemons.close()
