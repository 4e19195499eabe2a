"""The response daemon as a process, real sockets, and a publisher that plays the request daemon."""

import asyncio
import contextlib
import json
import socket
import struct
import uuid
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from stablediffusiond.broker.connection import Connection
from stablediffusiond.broker.message import Message
from stablediffusiond.broker.topology import Topology
from stablediffusiond.frames import Frame, read_frame
from stablediffusiond.settings import BrokerSettings
from tests.preloaded import response_daemon
from tools.daemons import Daemon
from tools.private_broker import PrivateBroker

LIMITS = {
    "STABLEDIFFUSIOND_RESPONSES__STALL_SECONDS": "1",
    "STABLEDIFFUSIOND_RESPONSES__HANDSHAKE_SECONDS": "1",
    "STABLEDIFFUSIOND_RESPONSES__MAX_CONNECTIONS": "30",
    "STABLEDIFFUSIOND_RESPONSES__MAX_LINE_BYTES": "1000",
}


class Client:
    """One connection to the daemon, by TCP or by its Unix socket."""

    def __init__(self, where: int | Path, *, receive_bytes: int | None = None) -> None:
        self.socket = socket.socket(socket.AF_INET if isinstance(where, int) else socket.AF_UNIX)
        if receive_bytes:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.socket.settimeout(20)
        self.socket.connect(("127.0.0.1", where) if isinstance(where, int) else str(where))
        self.reader = self.socket.makefile("rb")

    def send(self, **op: object) -> None:
        self.socket.sendall(json.dumps(op).encode() + b"\n")

    def listen(self, queue: str, **options: object) -> "Client":
        self.send(op="listen", queue=queue, **options)
        assert self.receive().head == {"type": "listening", "queue": queue}
        return self

    def receive(self) -> Frame:
        frame = read_frame(self.reader)
        assert frame is not None, "the daemon closed the connection"
        return frame

    def receive_error(self) -> object:
        head = self.receive().head
        assert head["type"] == "error", head
        assert head["message"]
        return head["code"]

    def ended(self) -> bool:
        """Wait for the daemon to close the connection."""
        try:
            while self.reader.read(65_536):
                pass
        except ConnectionResetError:
            pass
        return True

    def close(self) -> None:
        """Leave as most programs do: the daemon cannot tell it from one that only stops speaking."""
        self.reader.close()
        self.socket.close()

    def abort(self) -> None:
        """Leave with a reset, which the daemon notices at once."""
        if self.socket.fileno() >= 0:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()


class Connect(Protocol):
    def __call__(self, *, receive_bytes: int | None = None) -> Client: ...


class Replies:
    """Puts replies into queues, and reads exchanges, over a connection of its own."""

    def __init__(self, settings: BrokerSettings, topology: Topology) -> None:
        self.topology = topology
        self._runner = asyncio.Runner()
        self._connection = self.run(Connection.open(settings, "the tests"))
        self._channel = self.run(self._connection.channel())
        self.run(self._channel.confirm_publishes())

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self._runner.run(work)

    def put(self, queue: str, message: Message) -> None:
        self.run(self._channel.publish(message, "", queue))

    def image(self, queue: str, index: int = 0, png: bytes = b"\x89PNG bytes", job: str = "job") -> None:
        headers = {
            "id": job, "index": index, "count": 2, "job_type": "txt2img", "prompt": "cat 🐈", "negative_prompt": "",
            "seed": 7, "width": 8, "height": 8, "steps": 3, "guidance_scale": 7.5, "sampler": "DDIM", "eta": 0.0,
            "model": "doodle",
        }  # fmt: skip
        self.put(queue, Message(png, "image/png", "image", f"{job}/{index}", correlation_id="corr", headers=headers))

    def done(self, queue: str, job: str = "job") -> None:
        seconds = {"queued_seconds": 0.1, "engine_seconds": 0.2, "total_seconds": 0.3}
        body = json.dumps({"id": job, "images": 1, **seconds}).encode()
        self.put(queue, Message(body, "application/json", "done", f"{job}/done", correlation_id="corr"))

    def progress(self, queue: str, step: int) -> None:
        body = json.dumps({"id": "job", "step": step, "steps": 9}).encode()
        message = Message(body, "application/json", "progress", "job/progress")
        self.run(self._channel.publish(message, self.topology.events, queue, mandatory=False))

    def waiting(self, queue: str) -> int:
        count: int = self.run(self._channel.check_queue(queue))
        return count

    def empty(self, queue: str) -> None:
        while (delivery := self.run(self._channel.get(queue))) is not None:
            delivery.ack()

    def close(self) -> None:
        self.run(self._connection.close())
        self._runner.close()


@pytest.fixture(scope="module")
def names() -> Topology:
    name = uuid.uuid4().hex[:8]
    return Topology(f"requests-{name}", f"results-{name}")


@pytest.fixture(scope="module")
def daemon(broker: PrivateBroker, names: Topology) -> Iterator[Daemon]:
    environment = {
        **LIMITS,
        "STABLEDIFFUSIOND_CONFIG": "",
        "STABLEDIFFUSIOND_BROKER__URL": broker.url,
        "STABLEDIFFUSIOND_QUEUES__REQUESTS": names.requests,
        "STABLEDIFFUSIOND_QUEUES__RESULTS": names.results,
    }
    with response_daemon(environment) as made:
        yield made.wait_ready().wait_status("clients$")


@pytest.fixture(scope="module")
def replies(broker: PrivateBroker, names: Topology, daemon: Daemon) -> Iterator[Replies]:
    made = Replies(BrokerSettings.model_validate({"url": broker.url}), names)
    yield made
    made.close()


@pytest.fixture
def connect(daemon: Daemon) -> Iterator[Connect]:
    with contextlib.ExitStack() as opened:

        def make(*, receive_bytes: int | None = None) -> Client:
            client = Client(daemon.port(), receive_bytes=receive_bytes)
            opened.callback(client.abort)
            return client

        yield make


@pytest.fixture
def queue(names: Topology) -> str:
    """A results queue that only one test uses."""
    return f"{names.results}.{uuid.uuid4()}"


@pytest.fixture
def results(names: Topology, replies: Replies) -> str:
    """The queue of those that send nothing, without what other tests have left there."""
    replies.empty(names.results)
    return names.results
