"""Both daemons as a test sees them: requests are taken from a real broker, replies go out of a scripted socket."""

import asyncio
import contextlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pika
import PIL.Image

from stablediffusiond import frames
from stablediffusiond.broker.connection import Connection
from stablediffusiond.broker.topology import Topology, declare
from stablediffusiond.client import Event, Image
from stablediffusiond.settings import BrokerSettings, Settings
from tests.client.fake_responses import PATIENCE_SECONDS, FakeResponses


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


def indices(events: list[Event]) -> list[int]:
    return [event.facts.index for event in events if isinstance(event, Image)]
