import base64
import json
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from PIL import Image

from stablediffusiond.broker.message import Message
from stablediffusiond.broker.topology import Topology
from stablediffusiond.engine.catalogue import Catalogue
from stablediffusiond.errors import InvalidRequest, JobError, TooLarge
from stablediffusiond.messages.aliases import ALIASES
from stablediffusiond.messages.complete_request import CompleteRequest
from stablediffusiond.messages.request import MAX_PROMPT_CHARACTERS, Request
from stablediffusiond.pictures.bounds import MAX_PIXELS
from stablediffusiond.pictures.opening import open_init_image
from stablediffusiond.requestd.admission import AcceptedRequest, accept, address, read, read_request
from stablediffusiond.requestd.cancellations import Cancellations
from stablediffusiond.settings import LimitSettings, Settings

TOPOLOGY = Topology()
LIMITS = LimitSettings()


def accepted(message: Message, limits: LimitSettings = LIMITS, received_at: datetime | None = None) -> AcceptedRequest:
    fields = read(message, limits)
    where = address(message, TOPOLOGY, fields, "fallback")
    wanted = read_request(
        message, fields, where, TOPOLOGY, find_model=Catalogue(Settings()).find, priority="high", received_at=received_at or datetime.now(UTC)
    )
    return accept(wanted, lambda request: (CompleteRequest.of(request), []), limits)


def test_the_address_comes_from_the_properties() -> None:
    where = accepted(Message(b'{"prompt": "cat"}', message_id="m", correlation_id="c", reply_to="mine")).address
    assert (where.job_id, where.correlation_id, where.reply_to) == ("m", "c", "mine")


def test_without_properties_replies_go_to_results_under_the_job_id() -> None:
    where = accepted(Message(b'{"prompt": "cat", "id": "body"}')).address
    assert (where.job_id, where.correlation_id, where.reply_to) == ("body", "body", "results")


def test_a_message_without_any_id_gets_one() -> None:
    assert accepted(Message(b'{"prompt": "cat"}')).request.id == "fallback"


def test_replies_into_our_own_queues_are_refused_and_answered_elsewhere() -> None:
    message = Message(b'{"prompt": "cat"}', reply_to="stablediffusiond")
    assert address(message, TOPOLOGY).reply_to == "results"
    with pytest.raises(InvalidRequest, match="reply_to"):
        accepted(message)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"prompt": "cat", "steps": 151}', InvalidRequest),
        (b'{"prompt": "cat", "count": 17}', TooLarge),
        (b'{"prompt": "cat", "width": 2048, "height": 1024}', TooLarge),
    ],
)
def test_the_limits_of_the_service_hold(body: bytes, kind: type[Exception]) -> None:
    with pytest.raises(kind, match="at most"):
        accepted(Message(body))


def test_a_body_over_the_limit_is_not_even_parsed() -> None:
    with pytest.raises(TooLarge, match="at most 10 are taken"):
        read(Message(b"x" * 11), LimitSettings(max_request_bytes=10))


@pytest.mark.parametrize(
    ("waited_seconds", "left_seconds"),
    [(0, 90), (30, 60), (100, -10), (-5, 90)],
    ids=["came at once", "waited", "came too late", "from a clock that is ahead of ours"],
)
def test_the_deadline_counts_from_publication(waited_seconds: float, left_seconds: float) -> None:
    published = datetime(2026, 1, 1, tzinfo=UTC)
    message = Message(b'{"prompt": "cat", "deadline_seconds": 90}', timestamp=published)
    made = accepted(message, received_at=published + timedelta(seconds=waited_seconds))
    assert made.deadline == pytest.approx(time.monotonic() + left_seconds, abs=5)


def test_a_deadline_may_be_as_far_as_a_number_goes_and_need_not_be() -> None:
    assert accepted(Message(b'{"prompt": "cat", "deadline_seconds": 1e300}')).deadline is not None
    assert accepted(Message(b'{"prompt": "cat"}')).deadline is None


def test_an_id_too_long_for_amqp_is_cut_for_its_answer() -> None:
    assert len(address(Message(b"{}"), TOPOLOGY, {"id": "ä" * 300}).job_id.encode()) == 200


def test_a_cancellation_covers_what_was_published_before_it() -> None:
    cancellations = Cancellations()
    cancellations.add("job")
    now = datetime.now(UTC)
    assert cancellations.cover("job", None)
    assert cancellations.cover("job", now - timedelta(seconds=5))
    assert not cancellations.cover("job", now + timedelta(seconds=5)), "sent again after it was cancelled"
    assert not cancellations.cover("another", None)


#: What Python tells an audit hook of when something outside is reached for.
REACHING = (
    "open",
    "os.open",
    "socket.connect",
    "socket.getaddrinfo",
    "subprocess.Popen",
    "os.system",
    "urllib.Request",
)


@pytest.fixture(scope="module")
def reached() -> list[str]:
    """What was reached for; an audit hook can be set and never taken away, so it is one for all of this file."""
    seen: list[str] = []
    sys.addaudithook(lambda event, given: seen.append(f"{event} {given[0]!r}") if event in REACHING else None)
    return seen


PLACES = ("/etc/passwd", "file:///etc/passwd", "http://127.0.0.1:1/x.png", "\\\\host\\share", "data:,x", "../../x.ckpt")


@pytest.mark.parametrize("place", PLACES)
def test_nothing_in_a_message_opens_a_file_or_a_connection(place: str, reached: list[str]) -> None:
    fields = [
        name for name in (*Request.model_fields, *(each for some in ALIASES.values() for each in some)) if name != "id"
    ]
    bodies: list[dict[str, object]] = [
        {"prompt": place, "id": place, name: place} for name in (*fields, "ckpt", "config", "outdir", "model")
    ]
    bodies += [
        {"prompt": "cat", "init_images": [place]},
        {"prompt": place, "image": base64.b64encode(place.encode()).decode()},
    ]
    refused = []
    Image.init()  # Pillow loads its decoders with the first picture
    accepted(Message(b'{"prompt": "cat"}'))
    reached.clear()
    for body in bodies:
        try:
            made = accepted(Message(json.dumps(body).encode(), message_id=place, correlation_id=place, reply_to="mine"))
            if made.request.image is not None:
                open_init_image(made.request.image, 64, 64)
        except JobError as error:
            refused.append(error)
    assert not reached
    assert "invalid_request" in {error.code for error in refused}
    Path(__file__).read_bytes()
    assert any(__file__ in each for each in reached), "the hook sees what is opened"


def test_the_limits_have_defaults() -> None:
    assert LIMITS.model_dump() == {
        "max_steps": 150, "max_images": 16, "max_loras": 8, "max_controls": 4, "max_ip_adapters": 4, "max_pixels": 1024 * 1024,
        "max_upscaled_pixels": 4096 * 4096,
        "max_request_bytes": 16 * 1024 * 1024, "max_reply_bytes": 12 * 1024 * 1024,
    }  # fmt: skip
    assert (MAX_PROMPT_CHARACTERS, MAX_PIXELS) == (10_000, 65_000_000)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"steps": 151}, "invalid_request"),
        ({"count": 17}, "too_large"),
        ({"loras": ["ink"] * 8, "prompt": "<lora:ink:1>"}, "invalid_request"),
        ({"width": 1032, "height": 1024}, "too_large"),
        ({"prompt": "x" * 10_001}, "invalid_request"),
        ({"image": "A" * 16 * 1024 * 1024}, "too_large"),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_one_more_than_the_default_is_refused(fields: dict[str, object], code: str) -> None:
    with pytest.raises(JobError) as caught:
        accepted(Message(json.dumps({"prompt": "cat", **fields}).encode()))
    assert caught.value.code == code


def test_as_much_as_the_default_is_taken() -> None:
    most = {"prompt": "x" * 10_000, "steps": 150, "count": 16, "width": 1024, "height": 1024}
    assert accepted(Message(json.dumps(most).encode())).request.count == 16


def test_a_model_that_is_not_here_is_refused_with_the_one_that_is() -> None:
    with pytest.raises(InvalidRequest, match="no model 'v2-1_768' here; this service draws with 'doodle'") as caught:
        accepted(Message(b'{"prompt": "cat", "override_settings": {"sd_model_checkpoint": "v2-1_768"}}'))
    assert caught.value.field == "model"
    assert accepted(Message(b'{"prompt": "cat", "model": "doodle"}')).request.model == "doodle"
    assert accepted(Message(b'{"prompt": "cat", "model": ""}')).request.model == "doodle"
