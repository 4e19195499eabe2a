from stablediffusiond.broker.message import Delivery, Message
from stablediffusiond.broker.topology import RequestQueue
from stablediffusiond.requestd.in_flight import InFlightJobs

QUEUE = RequestQueue("requests", "normal")


class Channel:
    def __init__(self) -> None:
        self.acked: list[int] = []
        self.requeued: list[int] = []

    def ack(self, tag: int) -> None:
        self.acked.append(tag)

    def requeue(self, tag: int) -> None:
        self.requeued.append(tag)


def delivery(
    channel: Channel, tag: int, *, again: bool = False, message_id: str | None = "job", body: bytes = b"{}"
) -> Delivery:
    return Delivery(Message(body, message_id=message_id), "requests", tag, again, channel)


def test_an_answered_job_is_acked_on_the_channel_that_brought_it() -> None:
    in_flight, channel = InFlightJobs(), Channel()
    in_flight.settle(in_flight.take(delivery(channel, 1), QUEUE))
    assert channel.acked == [1]
    assert not len(in_flight)


def test_a_job_goes_on_when_its_channel_dies_and_its_redelivery_is_attached() -> None:
    in_flight, first, second = InFlightJobs(), Channel(), Channel()
    job = in_flight.take(delivery(first, 1), QUEUE)
    in_flight.detach()
    assert in_flight.recognise(delivery(second, 7, again=True))
    in_flight.settle(job)
    assert (first.acked, second.acked) == ([], [7])


def test_a_job_answered_while_the_broker_was_away_is_acked_when_it_comes_again() -> None:
    in_flight, first, second = InFlightJobs(), Channel(), Channel()
    job = in_flight.take(delivery(first, 1), QUEUE)
    in_flight.detach()
    in_flight.settle(job)
    assert in_flight.recognise(delivery(second, 3, again=True))
    assert second.acked == [3]
    assert not in_flight.recognise(delivery(second, 4, again=True)), "one answer is good for one redelivery"


def test_an_ack_that_may_have_been_lost_with_its_connection_is_given_again() -> None:
    in_flight, first, second = InFlightJobs(), Channel(), Channel()
    in_flight.settle(in_flight.take(delivery(first, 1), QUEUE))
    in_flight.detach()
    assert in_flight.recognise(delivery(second, 4, again=True))
    assert second.acked == [4]
    assert not in_flight.recognise(delivery(second, 5, again=True)), "one ack is lost once"


def test_an_anonymous_job_is_rather_drawn_twice_than_taken_for_its_twin() -> None:
    in_flight, first, second = InFlightJobs(), Channel(), Channel()
    job = in_flight.take(delivery(first, 1, message_id=None), QUEUE)
    in_flight.detach()
    in_flight.settle(job)
    assert not in_flight.recognise(delivery(second, 2, again=True, message_id=None))


def test_two_equal_messages_are_two_jobs() -> None:
    in_flight, first, second = InFlightJobs(), Channel(), Channel()
    one, two = in_flight.take(delivery(first, 1), QUEUE), in_flight.take(delivery(first, 2), QUEUE)
    in_flight.detach()
    assert in_flight.recognise(delivery(second, 1, again=True))
    assert in_flight.recognise(delivery(second, 2, again=True))
    assert not in_flight.recognise(delivery(second, 3, again=True))
    in_flight.settle(one)
    in_flight.settle(two)
    assert sorted(second.acked) == [1, 2]


def test_a_job_of_another_body_is_another_job() -> None:
    in_flight, first = InFlightJobs(), Channel()
    in_flight.take(delivery(first, 1), QUEUE)
    in_flight.detach()
    assert not in_flight.recognise(delivery(first, 2, again=True, body=b'{"prompt": "dog"}'))


def test_a_job_given_back_is_requeued() -> None:
    in_flight, channel = InFlightJobs(), Channel()
    in_flight.requeue(in_flight.take(delivery(channel, 5), QUEUE))
    assert (channel.acked, channel.requeued) == ([], [5])


async def test_empty_waits_for_the_last_job() -> None:
    in_flight, channel = InFlightJobs(), Channel()
    job = in_flight.take(delivery(channel, 1), QUEUE)
    in_flight.settle(job)
    await in_flight.empty()
