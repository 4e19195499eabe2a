"""A client that publishes jobs of all kinds, reads their replies, and records both, whatever breaks meanwhile."""

import base64
import io
import json
import threading
import time
import uuid
import zlib
from datetime import UTC, datetime
from typing import Final

from PIL import Image

from stablediffusiond.broker.message import Message
from stablediffusiond.broker.topology import Topology
from stablediffusiond.client.background_loop import BackgroundLoop
from stablediffusiond.client.submitter import Submitter
from stablediffusiond.errors import BrokerError
from stablediffusiond.frames import Frame
from stablediffusiond.messages.request import Priority
from stablediffusiond.settings import BrokerSettings
from tests.faults.job_kinds import Fields, kinds
from tests.faults.job_records import JobRecord, JobRecords
from tests.faults.socket_reader import SocketReader

_PAUSE_SECONDS: Final = 0.1
_RECONNECT_SECONDS: Final = 600


class RecordingClient:
    """Publishes to the broker of ``settings``, and reads from the response daemon on ``port``."""

    def __init__(self, settings: BrokerSettings, port: int, topology: Topology) -> None:
        self._topology = topology
        self._loop = BackgroundLoop()
        self._submitter = Submitter(settings, _RECONNECT_SECONDS)
        self.kinds = kinds(_init_image())
        self.records = JobRecords()
        self.reader = SocketReader(port, f"{topology.results}.{uuid.uuid4()}", self._on_reply)
        self._closed = threading.Event()
        #: How often the broker has not taken a job.
        self.refusals = 0

    def start(self) -> None:
        self.reader.start()
        self.reader.listening.wait(60)

    def close(self) -> None:
        """Have nothing published and read any more; does nothing when called again."""
        if self._closed.is_set():
            return
        self._closed.set()
        self.reader.close()
        self._loop.stop(self._submitter.close)

    def submit(self, kind: str, *, priority: Priority = "normal") -> str:
        """Publish a job of that kind, as often as it takes until the broker confirms it; returns its id."""
        return self.submit_fields(kind, {**self.kinds[kind], "id": f"{kind}/{uuid.uuid4()}"}, priority=priority)

    def submit_fields(self, kind: str, fields: Fields, *, priority: Priority = "normal") -> str:
        """Likewise a job of other ``fields``, which has an id of its own."""
        job_id = str(fields["id"])
        self.records.add(job_id, kind)
        self.publish(fields, priority=priority)
        self.records.confirm(job_id)
        return job_id

    def publish(self, fields: Fields, *, priority: Priority = "normal", reply_to: str = "") -> None:
        """Publish a job that is not recorded."""
        name = str(fields["id"])
        message = Message(
            json.dumps(fields).encode(), "application/json", message_id=name, correlation_id=name,
            reply_to=reply_to or self.reader.queue, timestamp=datetime.now(UTC),
        )  # fmt: skip
        queue = self._topology.request_queue(priority, _model_of_queue(fields))
        while not self._closed.is_set():
            try:
                self.send(message, queue)
            except BrokerError:
                self.refusals += 1
                time.sleep(_PAUSE_SECONDS)
            else:
                return

    def send(self, message: Message, queue: str) -> None:
        """Publish ``message``, and return when the broker has confirmed it."""
        self._loop.run(self._submitter.publish(message, queue))

    def reference_run(self) -> dict[str, JobRecord]:
        """One job of each kind, drawn alone, by kind; what was recorded before is forgotten."""
        for kind in self.kinds:
            self.submit(kind)
            assert self.records.wait_for_all(120), f"{kind} has not ended"
        drawn, self.records = {job.kind: job for job in self.records.jobs.values()}, JobRecords()
        return drawn

    def _on_reply(self, frame: Frame) -> None:
        self.records.add_reply(frame)


def _model_of_queue(fields: Fields) -> str | None:
    """Every other job goes to the queue of its model, if it names any; the others are passed on by a daemon."""
    model = fields.get("model")
    return str(model) if model and zlib.crc32(str(fields["id"]).encode()) % 2 else None


def _init_image() -> str:
    out = io.BytesIO()
    Image.linear_gradient("L").resize((64, 64)).convert("RGB").save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()
