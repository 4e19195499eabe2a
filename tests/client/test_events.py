import itertools
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from stablediffusiond import frames
from stablediffusiond.client import Client, Done, Event, Failed, Image, Progress
from stablediffusiond.errors import JobFailed, ResponsesAway, TimedOut
from stablediffusiond.settings import Settings
from tests.client.fake_daemons import FakeDaemons, indices, png
from tests.client.fake_responses import PATIENCE_SECONDS, FakeResponses


def test_events_are_typed_and_end_with_done(client: Client, daemons: FakeDaemons) -> None:
    job = client.submit(prompt="a red cat", seed=42, count=2)
    request = daemons.take()
    daemons.draw(request, 0, 1)
    daemons.finish(request)
    first, second, last = job.events()
    assert isinstance(first, Image)
    assert isinstance(second, Image)
    assert isinstance(last, Done)
    assert first.data == png(0)
    assert (second.id, second.facts.seed, second.facts.type, second.facts.prompt) == (
        job.id,
        43,
        "txt2img",
        "a red cat",
    )
    assert second.picture().getpixel((0, 0)) == (1, 0, 0)
    assert list(job.events()) == []


def test_a_failed_job_ends_with_its_reason(client: Client, daemons: FakeDaemons) -> None:
    job = client.submit(prompt="cat")
    daemons.fail(daemons.take(), "expired", "too late")
    (event,) = job.events()
    assert isinstance(event, Failed)
    assert (event.error.code, event.error.message) == ("expired", "too late")


def test_draw_returns_the_pictures_in_order(client: Client, daemons: FakeDaemons) -> None:
    with ThreadPoolExecutor() as pool:
        drawing = pool.submit(client.draw, prompt="cat", count=3)
        request = daemons.take()
        daemons.draw(request, 2, 0, 1)
        daemons.finish(request)
        pictures = drawing.result(PATIENCE_SECONDS)
    assert [picture.getpixel((0, 0)) for picture in pictures] == [(0, 0, 0), (1, 0, 0), (2, 0, 0)]


def test_draw_raises_what_the_daemon_says(client: Client, daemons: FakeDaemons) -> None:
    with ThreadPoolExecutor() as pool:
        drawing = pool.submit(client.draw, prompt="cat")
        daemons.fail(daemons.take(), "out_of_memory", "the device is too small")
        with pytest.raises(JobFailed, match="too small") as caught:
            drawing.result(PATIENCE_SECONDS)
    assert caught.value.code == "out_of_memory"


def test_a_reply_is_acked_when_it_is_handed_out_and_not_before(
    client: Client, daemons: FakeDaemons, responses: FakeResponses
) -> None:
    job = client.submit(prompt="cat", count=2)
    request = daemons.take()
    first, second = daemons.draw(request, 0, 1)
    last = daemons.finish(request)
    events = job.events()
    next(events)
    assert responses.acks.get(timeout=PATIENCE_SECONDS) == first
    assert responses.unacked(client.queue) == [second, last]
    assert len(list(events)) == 2
    assert responses.acks.get(timeout=PATIENCE_SECONDS) == second
    assert responses.acks.get(timeout=PATIENCE_SECONDS) == last


def test_pictures_that_nobody_reads_do_not_keep_those_that_somebody_waits_for(
    client: Client, daemons: FakeDaemons
) -> None:
    unread, wanted = client.submit(prompt="cat", count=10), client.submit(prompt="dog")
    first, second = daemons.take(), daemons.take()
    daemons.draw(first, *range(10))
    daemons.finish(first)
    daemons.draw(second, 0)
    daemons.finish(second)
    assert indices(list(wanted.events(timeout_seconds=PATIENCE_SECONDS))) == [0]
    assert indices(list(unread.events(timeout_seconds=PATIENCE_SECONDS))) == list(range(10))


def test_repeats_are_dropped(client: Client, daemons: FakeDaemons, responses: FakeResponses) -> None:
    job = client.submit(prompt="cat", count=2)
    request = daemons.take()
    daemons.draw(request, 0, 0, 1, 0, count=2)
    daemons.finish(request)
    daemons.finish(request)
    daemons.draw(request, 1, count=2)
    events = list(job.events())
    assert indices(events) == [0, 1]
    assert len(events) == 3
    for _ in range(7):
        responses.acks.get(timeout=PATIENCE_SECONDS)
    assert responses.unacked(client.queue) == []


def test_replies_to_strangers_and_of_unknown_types_are_settled_and_passed_over(
    client: Client, daemons: FakeDaemons, responses: FakeResponses
) -> None:
    job = client.submit(prompt="cat")
    request = daemons.take()
    responses.send(client.queue, {"type": "done", "id": "a stranger", "images": 1, "queued_seconds": 0, "engine_seconds": 0, "total_seconds": 0})  # fmt: skip
    responses.send(client.queue, {"type": "applause", "id": job.id})
    responses.write(client.queue, frames.encode({"type": "error", "code": "odd", "message": "never mind"})[0])
    daemons.finish(request)
    assert [type(event) for event in job.events()] == [Done]
    for _ in range(3):
        responses.acks.get(timeout=PATIENCE_SECONDS)


def test_a_reply_that_cannot_be_understood_says_that_the_versions_do_not_fit(
    client: Client, daemons: FakeDaemons, responses: FakeResponses
) -> None:
    job = client.submit(prompt="cat")

    def answer() -> None:
        responses.send(client.queue, {"type": "done", "id": job.id})

    with ThreadPoolExecutor() as pool:
        reading = pool.submit(lambda: list(job.events()))
        pool.submit(answer)
        with pytest.raises(ResponsesAway, match="not of this client's version"):
            reading.result(PATIENCE_SECONDS)


def test_jobs_are_read_by_many_threads_at_a_time(client: Client, daemons: FakeDaemons) -> None:
    jobs = [client.submit(prompt="cat", id=f"job-{number}", count=3) for number in range(8)]
    requests = [daemons.take() for _ in jobs]
    with ThreadPoolExecutor(len(jobs)) as pool:
        reading = [pool.submit(list[Event], job.events()) for job in jobs]
        for index, request in itertools.product(range(3), requests):
            daemons.draw(request, index)
        for request in requests:
            daemons.finish(request)
        for job, read in zip(jobs, reading, strict=True):
            events = read.result(PATIENCE_SECONDS)
            assert indices(events) == [0, 1, 2]
            assert {event.id for event in events} == {job.id}


def test_two_threads_share_the_events_of_one_job(client: Client, daemons: FakeDaemons) -> None:
    job = client.submit(prompt="cat", count=4)
    request = daemons.take()
    with ThreadPoolExecutor() as pool:
        reading = [pool.submit(lambda: list(job.events())) for _ in range(2)]
        daemons.draw(request, 0, 1, 2, 3)
        daemons.finish(request)
        first, second = (read.result(PATIENCE_SECONDS) for read in reading)
    assert sorted(indices(first + second)) == [0, 1, 2, 3]
    assert len(first + second) == 5


def test_a_reader_that_ran_out_of_time_may_go_on(client: Client, daemons: FakeDaemons) -> None:
    job = client.submit(prompt="cat")
    with pytest.raises(TimedOut):
        list(job.events(timeout_seconds=0.01))
    daemons.finish(daemons.take())
    assert [type(event) for event in job.events()] == [Done]


def test_progress_comes_to_those_who_ask(settings: Settings, daemons: FakeDaemons, responses: FakeResponses) -> None:
    with Client(settings, progress=True) as client:
        job = client.submit(prompt="cat")
        assert responses.listens.get_nowait()["progress"] is True
        request = daemons.take()
        daemons.progress(request, 1, 50)
        events = job.events()
        assert next(events) == Progress(id=job.id, step=1, steps=50)
        daemons.finish(request)
        assert [type(event) for event in events] == [Done]


def test_only_the_newest_progress_is_kept(settings: Settings, daemons: FakeDaemons) -> None:
    with Client(settings, progress=True) as client:
        one, other = client.submit(prompt="cat"), client.submit(prompt="dog")
        first, second = daemons.take(), daemons.take()
        for step in range(1, 40):
            daemons.progress(first, step, 50)
        daemons.finish(second)
        list(other.events())  # what came before this has arrived, too
        assert next(one.events()) == Progress(id=one.id, step=39, steps=50)


def test_closing_wakes_those_who_wait(settings: Settings, daemons: FakeDaemons, responses: FakeResponses) -> None:
    client = Client(settings)
    job = client.submit(prompt="cat")
    daemons.draw(daemons.take(), 0)
    events = job.events()

    def read() -> Iterator[Event]:
        yield next(events)
        reading.set()
        yield next(events)

    reading = threading.Event()
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(lambda: list(read()))
        assert reading.wait(PATIENCE_SECONDS)
        client.close()
        with pytest.raises(ResponsesAway):
            waiting.result(PATIENCE_SECONDS)
