"""One file a kind of message: the wire cannot change without a reviewer seeing it."""

import json
from pathlib import Path

import pytest

from stablediffusiond.broker.message import Message, to_properties
from stablediffusiond.errors import InvalidRequest
from stablediffusiond.messages.replies import Cancel, Done, ImageFacts, PreviewFacts
from stablediffusiond.messages.request import Request
from stablediffusiond.requestd import answers
from stablediffusiond.requestd.admission import Address

GOLDEN = Path(__file__).parent / "golden"
WHERE = Address(job_id="job-1", reply_to="results.alice", correlation_id="corr-1")
FACTS = ImageFacts(
    id="job-1", index=1, count=2, type="img2img", prompt="a red cat", negative_prompt="dog", seed=43, width=128, height=128,
    steps=20, guidance_scale=7.5, sampler="DPM++ 2M Karras", strength=0.75, eta=0.0, model="doodle",
)  # fmt: skip


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
    return answers.done(WHERE, reply)


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("request", request()),
        ("image", wire(answers.image(WHERE, FACTS, b"the bytes of a PNG"))),
        ("done", wire(done())),
        ("failed", wire(answers.failed(WHERE, InvalidRequest("'steps' must be at least 1", field="steps")))),
        ("progress", wire(answers.progress(WHERE, 7, 40))),
        ("preview", wire(answers.preview(WHERE, PreviewFacts(id="job-1", index=1, step=7, steps=20), b"a JPEG"))),
        ("cancel", json.loads(Cancel(cancel="job-1").model_dump_json())),
        ("unroutable", wire(answers.unroutable(done(), "results.gone"))),
    ],
)
def test_the_wire_has_not_changed(name: str, made: dict[str, object]) -> None:
    assert made == json.loads((GOLDEN / f"{name}.json").read_text("utf-8"))
