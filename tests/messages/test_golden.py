"""One file a kind of message: the wire cannot change without a reviewer seeing it."""

import json
from pathlib import Path

import pytest

from stablediffusiond.broker.message import Message, to_properties
from stablediffusiond.errors import InvalidRequest
from stablediffusiond.messages.replies import Cancel, Done, ImageFacts, PreviewFacts
from stablediffusiond.messages.request import Request
from stablediffusiond.messages.status import Ask, CallTime, JobStatus, QueueStatus, ServiceStatus, WorkerStatus
from stablediffusiond.requestd import reply_messages
from stablediffusiond.requestd.admission import ReplyAddress

GOLDEN = Path(__file__).parent / "golden"
WHERE = ReplyAddress(job_id="job-1", reply_to="results.alice", correlation_id="corr-1")
FACTS = ImageFacts(
    id="job-1", index=1, count=2, type="img2img", prompt="a red cat", negative_prompt="dog", seed=43, width=128, height=128,
    steps=20, guidance_scale=7.5, sampler="DPM++ 2M Karras", strength=0.75, eta=0.0, model="doodle",
)  # fmt: skip

JOBS = [
    JobStatus(id="job-1", priority="high", state="drawing", step=7, steps=40, images_drawn=0, images=2),
    JobStatus(priority="low", state="waiting"),
]
WORKER = WorkerStatus(
    host="gpu1", pid=4711, version="0.1.0", uptime_seconds=61.5, model="doodle", device="cuda:0 (a GPU)", dtype="float16",
    table=[CallTime(rows=1, seconds=0.02), CallTime(rows=2, seconds=0.025)], rows_at_a_time=2, images_at_a_time=1,
    device_memory_bytes=3_000_000_000, served=["doodle", "anime"], jobs=JOBS, images_per_second=1.9, images_total=114, jobs_done=57, jobs_failed=1,
    paused="the broker takes no publishes", healthy=True,
)  # fmt: skip
SERVICE = ServiceStatus(
    queues={
        "normal": QueueStatus(name="stablediffusiond", messages=14, consumers=1),
        "dead": QueueStatus(name="x.dead"),
    },
    model_queues=[QueueStatus(name="stablediffusiond@anime", messages=3, consumers=1)],
    workers=[WORKER],
    workers_connected=1,
)


def wire(message: Message) -> dict[str, object]:
    """A message as AMQP carries it, less the moment it was made."""
    properties = to_properties(message)
    text = message.content_type == "application/json"
    return {
        "content_type": properties.content_type,
        "type": properties.type,
        "message_id": properties.message_id,
        "correlation_id": properties.correlation_id,
        "delivery_mode": properties.delivery_mode,
        "headers": {name: value for name, value in (properties.headers or {}).items() if name != "x-daemon-version"},
        "body": json.loads(message.body) if text else message.body.decode(),
    }


def request() -> dict[str, object]:
    fields = {
        "id": "job-1",
        "prompt": "a red cat",
        "seed": 42,
        "steps": 20,
        "image": "aW1hZ2U=",
        "sampler": "k_euler_a",
    }
    made: dict[str, object] = json.loads(Request.from_fields(fields)[0].to_json())
    return made


def done() -> Message:
    reply = Done(
        id="job-1",
        images=2,
        queued_seconds=0.5,
        engine_seconds=1.25,
        total_seconds=2,
        warnings=["'C' is accepted and ignored"],
    )
    return reply_messages.done(WHERE, reply)


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("request", request()),
        ("image", wire(reply_messages.image(WHERE, FACTS, b"the bytes of a PNG", "image/png"))),
        ("done", wire(done())),
        ("failed", wire(reply_messages.failed(WHERE, InvalidRequest("'steps' must be at least 1", field="steps")))),
        ("progress", wire(reply_messages.progress(WHERE, 7, 40))),
        (
            "preview",
            wire(reply_messages.preview(WHERE, PreviewFacts(id="job-1", index=1, step=7, steps=20), b"a JPEG")),
        ),
        ("cancel", json.loads(Cancel(cancel="job-1").model_dump_json())),
        ("ask", json.loads(Ask(status=True).model_dump_json(exclude_defaults=True))),
        ("status", wire(reply_messages.status("corr-1", WORKER))),
        ("service", json.loads(SERVICE.model_dump_json(exclude_none=True))),
        ("unroutable", wire(reply_messages.unroutable(done(), "results.gone"))),
    ],
)
def test_the_wire_has_not_changed(name: str, made: dict[str, object]) -> None:
    assert made == json.loads((GOLDEN / f"{name}.json").read_text("utf-8"))
