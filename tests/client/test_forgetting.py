"""Jobs that nobody reads any more keep nothing: neither pictures here, nor replies on their way to us."""

import asyncio
import gc
import itertools
import signal
import threading
import time
from collections.abc import Callable

import pika
import psutil
import pytest

from stablediffusiond.client import AsyncClient, Client, Image, Job
from stablediffusiond.errors import TimedOut
from stablediffusiond.settings import Settings
from tests.client.fake_daemons import FakeDaemons, TakenRequest, done_head, image_head
from tests.client.fake_responses import PATIENCE_SECONDS, FakeResponses

GIVEN_UP = 10_000
PICTURE_BYTES = 100_000
#: What may come and go: batches under way, the allocator's arenas. All pictures kept would be a gigabyte.
SLACK_BYTES = 50_000_000


def forget(job: Job) -> None:
    job.forget()
    job.forget()


def end_its_block(job: Job) -> None:
    with job:
        pass


def drop(job: Job) -> None:
    """It is the caller's to drop."""


def read_one_and_drop(job: Job) -> None:
    assert isinstance(next(iter(job)), Image)


WAYS = [forget, end_its_block, drop, read_one_and_drop]


def wait_until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize("give_up", WAYS)
def test_what_has_come_and_what_will_is_acked_and_dropped(
    client: Client, daemons: FakeDaemons, responses: FakeResponses, give_up: Callable[[Job], None]
) -> None:
    job = client.submit(prompt="cat", count=10)
    request = daemons.take()
    daemons.draw(request, *range(8))  # more than the daemon sends unacked
    give_up(job)
    del job
    wait_until(lambda: not responses.unacked(client.queue))
    daemons.draw(request, 8, 9)
    daemons.finish(request)
    wait_until(lambda: not responses.unacked(client.queue))


def test_others_do_not_wait_for_what_is_forgotten(client: Client, daemons: FakeDaemons) -> None:
    forgotten, job = client.submit(prompt="cat", count=10), client.submit(prompt="dog")
    first, second = daemons.take(), daemons.take()
    daemons.draw(first, *range(10))
    forgotten.forget()
    assert list(forgotten) == []
    daemons.draw(second, 0)
    daemons.finish(second)
    assert len(list(job.events(timeout_seconds=PATIENCE_SECONDS))) == 2


def test_a_job_that_is_being_read_is_held(client: Client, daemons: FakeDaemons) -> None:
    events = client.submit(prompt="cat").events()
    gc.collect()
    request = daemons.take()
    daemons.draw(request, 0)
    daemons.finish(request)
    assert len(list(events)) == 2


@pytest.mark.parametrize("heard", [True, False])
def test_a_queue_is_kept_for_what_a_forgotten_job_has_yet_to_say(
    settings: Settings, daemons: FakeDaemons, responses: FakeResponses, heard: bool
) -> None:
    """Or its replies would be kept for an operator, as those whose queue is gone."""
    with Client(settings) as client:
        daemons.channel.queue_declare(client.queue, durable=True)
        client.submit(prompt="cat").forget()
        request = daemons.take()
        if heard:
            daemons.finish(request)
            wait_until(lambda: not responses.unacked(client.queue))
    channel = daemons._connection.channel()
    if heard:
        with pytest.raises(pika.exceptions.ChannelClosedByBroker, match="NOT_FOUND"):
            channel.queue_declare(client.queue, passive=True)
    else:
        channel.queue_delete(client.queue)


def interrupt_soon() -> None:
    main = threading.main_thread().ident
    assert main is not None
    threading.Timer(0.2, signal.pthread_kill, [main, signal.SIGINT]).start()


@pytest.mark.parametrize("ended_by", [TimedOut, KeyboardInterrupt])
def test_a_drawing_that_was_given_up_keeps_nothing(
    client: Client, daemons: FakeDaemons, responses: FakeResponses, ended_by: type[BaseException]
) -> None:
    if ended_by is KeyboardInterrupt:
        interrupt_soon()
    with pytest.raises(ended_by):
        client.draw(prompt="cat", count=8, timeout_seconds=0.5 if ended_by is TimedOut else None)
    request = daemons.take()
    daemons.draw(request, *range(8))
    daemons.finish(request)
    wait_until(lambda: not responses.unacked(client.queue))


def answer(responses: FakeResponses, queue: str, job_id: str) -> None:
    """Two pictures and the end, as from both daemons."""
    request = TakenRequest(pika.BasicProperties(message_id=job_id, reply_to=queue), {"seed": 1})
    for index in range(2):
        responses.send(queue, image_head(request, index, 2), bytes(PICTURE_BYTES))
    responses.send(queue, done_head(job_id, 2))


def resident_bytes() -> int:
    gc.collect()
    return int(psutil.Process().memory_info().rss)


async def test_memory_is_flat_over_ten_thousand_jobs_that_were_given_up(
    settings: Settings, daemons: FakeDaemons, responses: FakeResponses
) -> None:
    batch, numbers = 100, itertools.count()

    async def give_up_some(client: AsyncClient) -> None:
        ids = [f"drawing {next(numbers)}" for _ in range(batch // 2)]
        drawing = [client.draw(prompt="cat", count=2, id=job_id, timeout_seconds=0.05) for job_id in ids]
        assert all(isinstance(e, TimedOut) for e in await asyncio.gather(*drawing, return_exceptions=True))
        jobs = await asyncio.gather(*(client.submit(prompt="cat", count=2) for _ in range(batch // 2)))
        for job_id in (*ids, *(job.id for job in jobs)):
            await asyncio.to_thread(answer, responses, client.queue, job_id)
        for place, job in enumerate(jobs):
            if place % 3 == 0:
                await anext(aiter(job))
            if place % 3 == 1:
                job.forget()

    async with AsyncClient(settings) as client:
        for _ in range(5):
            await give_up_some(client)
        before = resident_bytes()
        for _ in range(GIVEN_UP // batch):
            await give_up_some(client)
        await asyncio.to_thread(wait_until, lambda: not responses.unacked(client.queue))

        assert resident_bytes() - before < SLACK_BYTES


def test_and_so_it_is_without_an_event_loop(client: Client, daemons: FakeDaemons, responses: FakeResponses) -> None:
    def give_up_some() -> None:
        for place in range(100):
            job = client.submit(prompt="cat", count=2)
            answer(responses, client.queue, job.id)
            WAYS[place % len(WAYS)](job)

    give_up_some()
    before = resident_bytes()
    for _ in range(20):
        give_up_some()
    wait_until(lambda: not responses.unacked(client.queue))
    assert resident_bytes() - before < SLACK_BYTES
