from datetime import UTC, datetime

from stablediffusiond.broker.message import Delivery, Message
from stablediffusiond.responsed.deduplication import ClientDeliveries
from tests.requestd.test_in_flight import Channel


def delivery(
    channel: Channel, tag: int, *, again: bool = False, message_id: str | None = "job/0", body: bytes = b"png"
) -> Delivery:
    message = Message(body, message_id=message_id, timestamp=datetime(2026, 1, 1, tzinfo=UTC))
    return Delivery(message, "results", tag, again, channel)


def test_a_reply_is_acked_under_its_number_and_once() -> None:
    deliveries, channel = ClientDeliveries(4), Channel()
    assert [deliveries.add(delivery(channel, tag)) for tag in (7, 8)] == [1, 2]
    assert len(deliveries) == 2
    assert deliveries.settle(2)
    assert deliveries.settle(2), "an ack said twice is no error"
    assert not deliveries.settle(3)
    assert not deliveries.settle(0)
    assert (channel.acked, len(deliveries)) == ([8], 1)


def test_a_redelivery_of_what_the_client_has_keeps_the_old_number() -> None:
    deliveries, first, second = ClientDeliveries(4), Channel(), Channel()
    deliveries.add(delivery(first, 1))
    deliveries.detach()
    assert deliveries.recognise(delivery(second, 5, again=True))
    assert len(deliveries) == 1
    assert deliveries.settle(1)
    assert (first.acked, second.acked) == ([], [5])


def test_what_the_client_acks_while_the_broker_is_away_is_acked_when_it_comes_again() -> None:
    deliveries, first, second = ClientDeliveries(4), Channel(), Channel()
    deliveries.add(delivery(first, 1))
    deliveries.detach()
    assert len(deliveries) == 1, "the client has yet to ack it"
    assert deliveries.settle(1)
    assert deliveries.recognise(delivery(second, 5, again=True))
    assert (first.acked, second.acked) == ([], [5])
    assert not deliveries.recognise(delivery(second, 6, again=True)), "one reply is good for one redelivery"


def test_an_ack_that_was_lost_is_said_again_through_two_outages() -> None:
    deliveries, channels = ClientDeliveries(1), [Channel() for _ in range(3)]
    deliveries.settle(deliveries.add(delivery(channels[0], 1)))
    for channel in channels[1:]:
        deliveries.detach()
        assert deliveries.recognise(delivery(channel, 2, again=True))
        assert channel.acked == [2]


def test_another_reply_is_sent() -> None:
    deliveries, first, second = ClientDeliveries(4), Channel(), Channel()
    deliveries.settle(deliveries.add(delivery(first, 1)))
    deliveries.add(delivery(first, 2, message_id=None))
    deliveries.detach()
    assert not deliveries.recognise(delivery(second, 1)), "a fresh message, asked for a second time"
    assert not deliveries.recognise(delivery(second, 2, again=True, message_id="job/1"))
    assert not deliveries.recognise(delivery(second, 3, again=True, body=b"other"))
    assert not deliveries.recognise(delivery(second, 4, again=True, message_id=None)), "it may be another like it"
    assert second.acked == []


def test_memory_is_bounded_by_the_prefetch() -> None:
    deliveries, channel = ClientDeliveries(2), Channel()
    for tag in range(100):
        deliveries.settle(deliveries.add(delivery(channel, tag)))
        deliveries.detach()
    assert len(deliveries._acked) + len(deliveries._in_doubt) <= 4
