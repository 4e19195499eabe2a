import asyncio
from collections import Counter
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stablediffusiond.client.events import Event, Image, from_frame
from stablediffusiond.client.job_replies import JobReplies
from stablediffusiond.client.reply_buffer import ReplyBuffer
from stablediffusiond.errors import ClientClosed
from stablediffusiond.frames import Frame
from stablediffusiond.messages.replies import Done

JOBS = ("one", "two")
replies = st.tuples(st.sampled_from(JOBS), st.integers(0, 3))
steps = st.lists(replies | st.sampled_from(JOBS), max_size=30)  #: a reply comes, or somebody reads a job


def picture(job: str, index: int) -> Image:
    facts = {"id": job, "index": index, "count": 4, "job_type": "txt2img", "prompt": "", "negative_prompt": ""}
    numbers = {"seed": 0, "width": 8, "height": 8, "steps": 1, "guidance_scale": "1", "eta": "0"}
    event = from_frame(Frame({"type": "image", **facts, **numbers, "sampler": "DDIM", "model": "doodle"}, b""))
    assert isinstance(event, Image)
    return event


def end(job: str, images: int = 0) -> Done:
    return Done(id=job, images=images, queued_seconds=0, engine_seconds=0, total_seconds=0)


def indices(events: list[Event | None]) -> list[int]:
    return [event.facts.index for event in events if isinstance(event, Image)]


class Deliveries:
    """Replies with acks that are counted."""

    def __init__(self, buffer: ReplyBuffer) -> None:
        self.buffer = buffer
        self.count = 0
        self.acks = Counter[int]()

    def put(self, event: Event) -> None:
        self.count += 1
        self.buffer.put(event, partial(self.acks.update, [self.count]))

    def each_acked_once(self) -> bool:
        return self.acks == Counter(range(1, self.count + 1))


@given(steps)
def test_whatever_comes_each_picture_is_read_once_in_order_and_each_delivery_acked_once(
    steps: list[tuple[str, int] | str],
) -> None:
    async def run() -> None:
        buffer = ReplyBuffer()
        deliveries = Deliveries(buffer)
        jobs = {job: buffer.open(job) for job in JOBS}
        came: dict[str, list[int]] = {job: [] for job in JOBS}
        read: dict[str, list[Event | None]] = {job: [] for job in JOBS}
        for step in steps:
            if isinstance(step, tuple):
                deliveries.put(picture(*step))
                came[step[0]].append(step[1])
            elif len(read[step]) < len(set(came[step])):
                read[step].append(await buffer.take(jobs[step]))
        for job in JOBS:
            deliveries.put(end(job))
            while (event := await buffer.take(jobs[job])) is not None:
                read[job].append(event)
            assert indices(read[job]) == list(dict.fromkeys(came[job]))
        assert deliveries.each_acked_once()
        assert len(buffer) == 0

    asyncio.run(run())


@given(steps, st.integers(0, 30))
def test_a_job_that_is_forgotten_keeps_nothing_and_each_of_its_deliveries_is_acked_once(
    steps: list[tuple[str, int] | str], moment: int
) -> None:
    async def run() -> None:
        buffer = ReplyBuffer()
        deliveries = Deliveries(buffer)
        jobs = {job: buffer.open(job) for job in JOBS}
        for place, step in enumerate(steps):
            if place == moment:
                buffer.forget(jobs["one"])
            if isinstance(step, tuple):
                deliveries.put(picture(*step))
        buffer.forget(jobs["one"])
        assert not jobs["one"].waiting
        assert await buffer.take(jobs["one"]) is None
        assert len(buffer) == len(JOBS)  # of both more may come
        deliveries.put(picture("one", 0))
        deliveries.put(end("one"))
        buffer.forget(jobs["two"])
        deliveries.put(end("two"))
        assert deliveries.each_acked_once()
        assert len(buffer) == 0

    asyncio.run(run())


async def test_an_end_that_overtakes_a_picture_waits_for_it() -> None:
    buffer = ReplyBuffer()
    job = buffer.open("one")
    for event in (picture("one", 1), end("one", images=2), picture("one", 0)):
        buffer.put(event, lambda: None)
    read = [await buffer.take(job) for _ in range(4)]
    assert indices(read[:2]) == [1, 0]
    assert read[2:] == [end("one", images=2), None]


async def test_a_reader_that_is_cancelled_takes_nothing_with_it() -> None:
    """Whether the reply comes before it is cancelled, at the same moment, or after."""
    for came_first in (True, False):
        buffer = ReplyBuffer()
        job = buffer.open("one")
        reading = asyncio.create_task(buffer.take(job))
        await asyncio.sleep(0)
        if came_first:
            buffer.put(picture("one", 0), lambda: None)
        reading.cancel()
        if not came_first:
            buffer.put(picture("one", 0), lambda: None)
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert await buffer.take(job) == picture("one", 0)


async def test_what_is_given_back_is_the_next_again() -> None:
    buffer = ReplyBuffer()
    deliveries = Deliveries(buffer)
    job = buffer.open("one")
    deliveries.put(picture("one", 0))
    deliveries.put(end("one"))
    for _ in range(3):
        buffer.give_back(job, first := await buffer.take(job))
        assert first == picture("one", 0)
    assert await buffer.take(job) == first
    for _ in range(3):
        buffer.give_back(job, await buffer.take(job))
    assert len(buffer) == 1
    assert [await buffer.take(job), await buffer.take(job)] == [end("one"), None]
    assert len(buffer) == 0
    assert deliveries.each_acked_once()


async def test_a_name_that_is_used_again_is_another_job() -> None:
    buffer = ReplyBuffer()
    old = buffer.open("one")
    buffer.put(end("one"), lambda: None)
    await buffer.take(old)
    new = buffer.open("one")
    buffer.forget(old)
    buffer.put(picture("one", 0), lambda: None)
    assert await buffer.take(old) is None
    assert await buffer.take(new) == picture("one", 0)


async def test_who_waits_for_a_job_that_is_forgotten_or_a_buffer_that_is_closed_is_woken() -> None:
    buffer = ReplyBuffer()
    forgotten, open_still = buffer.open("one"), buffer.open("two")
    reading = [asyncio.create_task(buffer.take(job)) for job in (forgotten, forgotten, open_still)]
    await asyncio.sleep(0)
    buffer.forget(forgotten)
    assert [await reading[0], await reading[1]] == [None, None]
    buffer.close()
    with pytest.raises(ClientClosed):
        await reading[2]


async def test_all_is_acked_while_anybody_waits_and_nothing_else() -> None:
    buffer = ReplyBuffer()
    deliveries = Deliveries(buffer)
    jobs: list[JobReplies] = [buffer.open(job) for job in JOBS]
    deliveries.put(picture("one", 0))
    assert not deliveries.acks
    reading = asyncio.create_task(buffer.take(jobs[1]))
    await asyncio.sleep(0)
    assert deliveries.acks == {1: 1}
    deliveries.put(picture("one", 1))
    assert deliveries.acks == {1: 1, 2: 1}
    deliveries.put(picture("two", 0))
    await reading
    deliveries.put(picture("one", 2))
    assert deliveries.acks == {1: 1, 2: 1, 3: 1}
