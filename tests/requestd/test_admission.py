from datetime import UTC, datetime, timedelta

import pytest

from stablediffusiond.broker.message import Message
from stablediffusiond.broker.topology import Topology
from stablediffusiond.errors import InvalidRequest, TooLarge
from stablediffusiond.requestd.admission import Order, address, admit, read
from stablediffusiond.requestd.cancellations import Cancellations
from stablediffusiond.settings import LimitSettings

TOPOLOGY = Topology()
LIMITS = LimitSettings()


def order(message: Message, limits: LimitSettings = LIMITS) -> Order:
    fields = read(message, limits)
    return admit(message, fields, address(message, TOPOLOGY, fields, "fallback"), TOPOLOGY, limits, priority="high")


def test_the_address_comes_from_the_properties() -> None:
    where = order(Message(b'{"prompt": "cat"}', message_id="m", correlation_id="c", reply_to="mine")).address
    assert (where.job_id, where.correlation_id, where.reply_to) == ("m", "c", "mine")


def test_without_properties_replies_go_to_results_under_the_job_id() -> None:
    where = order(Message(b'{"prompt": "cat", "id": "body"}')).address
    assert (where.job_id, where.correlation_id, where.reply_to) == ("body", "body", "results")


def test_a_message_without_any_id_gets_one() -> None:
    assert order(Message(b'{"prompt": "cat"}')).request.id == "fallback"


def test_replies_into_our_own_queues_are_refused_and_answered_elsewhere() -> None:
    message = Message(b'{"prompt": "cat"}', reply_to="stablediffusiond")
    assert address(message, TOPOLOGY).reply_to == "results"
    with pytest.raises(InvalidRequest, match="reply_to"):
        order(message)


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
        order(Message(body))


def test_a_body_over_the_limit_is_not_even_parsed() -> None:
    with pytest.raises(TooLarge, match="at most 10 are taken"):
        read(Message(b"x" * 11), LimitSettings(max_request_bytes=10))


def test_the_deadline_counts_from_publication() -> None:
    published = datetime(2026, 1, 1, tzinfo=UTC)
    made = order(Message(b'{"prompt": "cat", "deadline_seconds": 90}', timestamp=published))
    assert made.deadline == published + timedelta(seconds=90)
    assert order(Message(b'{"prompt": "cat", "deadline_seconds": 1e300}')).deadline is not None
    assert order(Message(b'{"prompt": "cat"}')).deadline is None


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
