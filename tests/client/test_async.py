"""From a program with an event loop: the same names, awaited; and a wait that is cancelled takes nothing with it."""

import asyncio
import base64
import inspect
import json
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from stablediffusiond.client import AsyncClient, AsyncJob, Client, Done, Event, Image, Job, Progress
from stablediffusiond.errors import BelongsElsewhere, BrokerError, ClientClosed, JobFailed, TimedOut
from stablediffusiond.messages.request import Request
from stablediffusiond.settings import Settings
from tests.client.fake_daemons import FakeDaemons, TakenRequest, png
from tests.client.fake_responses import PATIENCE_SECONDS, FakeResponses
from tests.client.proxy import Proxy


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[AsyncClient]:
    async with asyncio.timeout(2 * PATIENCE_SECONDS), AsyncClient(settings) as made:
        yield made


async def take(daemons: FakeDaemons) -> TakenRequest:
    return await asyncio.to_thread(daemons.take)


async def answer(daemons: FakeDaemons, count: int = 1) -> TakenRequest:
    """Draw and end the next job."""
    request = await take(daemons)
    daemons.draw(request, *range(count))
    daemons.finish(request)
    return request


def indices(events: list[Event]) -> list[int]:
    return [event.facts.index for event in events if isinstance(event, Image)]


@pytest.mark.parametrize(("plain", "awaited"), [(Client, AsyncClient), (Job, AsyncJob)])
def test_the_names_are_the_same(plain: type, awaited: type) -> None:
    def signatures(of: type) -> dict[str, object]:
        methods = {name: getattr(of, name) for name in dir(of) if not name.startswith("_")}
        return {name: list(inspect.signature(m).parameters) if callable(m) else "" for name, m in methods.items()}

    assert signatures(plain) == signatures(awaited)
    assert list(inspect.signature(plain).parameters)[0:1] == list(inspect.signature(awaited).parameters)[0:1]


async def test_a_picture_is_drawn(client: AsyncClient, daemons: FakeDaemons) -> None:
    drawing = asyncio.create_task(client.draw(prompt="a red cat", seed=42, count=2))
    request = await answer(daemons, 2)
    first, second = await drawing
    assert (first.getpixel((0, 0)), second.getpixel((0, 0))) == ((0, 0, 0), (1, 0, 0))
    assert (request.fields["seed"], request.reply_to) == (42, client.queue)


async def test_a_failed_job_raises(client: AsyncClient, daemons: FakeDaemons) -> None:
    drawing = asyncio.create_task(client.draw(prompt="cat"))
    daemons.fail(await take(daemons))
    with pytest.raises(JobFailed, match="too little memory"):
        await drawing


async def test_events_are_read_from_a_job(client: AsyncClient, daemons: FakeDaemons) -> None:
    request, _ = Request.from_fields({"prompt": "cat", "count": 2})
    job = await client.submit(request)
    assert job.id == (await answer(daemons, 2)).id
    events = [event async for event in job]
    assert indices(events) == [0, 1]
    assert isinstance(events[-1], Done)
    assert [event async for event in job.events()] == []


async def test_a_picture_may_be_a_path(client: AsyncClient, daemons: FakeDaemons, tmp_path: Path) -> None:
    (tmp_path / "cat.png").write_bytes(png(1))
    await client.enqueue(prompt="cat", image=tmp_path / "cat.png")
    assert base64.b64decode((await take(daemons)).fields["image"]) == png(1)


async def test_progress_comes_to_those_who_ask(settings: Settings, daemons: FakeDaemons) -> None:
    async with AsyncClient(settings, progress=True) as client:
        job = await client.submit(prompt="cat")
        request = await take(daemons)
        daemons.progress(request, 1, 50)
        events = job.events()
        assert await anext(events) == Progress(id=job.id, step=1, steps=50)
        daemons.finish(request)
        assert [type(event) async for event in events] == [Done]


async def test_the_rest_of_the_names(client: AsyncClient, daemons: FakeDaemons) -> None:
    cancelled = watch_cancels(daemons)
    await client.connect()
    job_id = await client.enqueue(prompt="cat")
    request = await take(daemons)
    assert (request.id, request.properties.reply_to) == (job_id, None)
    await client.cancel(job_id)
    assert cancelled() == [job_id]
    assert (await client.status()).workers == []


async def test_many_jobs_at_once_share_the_connections(
    client: AsyncClient, daemons: FakeDaemons, responses: FakeResponses
) -> None:
    jobs = 50
    drawing = [asyncio.create_task(client.draw(prompt="cat", seed=number)) for number in range(jobs)]
    for _ in range(jobs):
        await answer(daemons)
    assert [len(pictures) for pictures in await asyncio.gather(*drawing)] == [1] * jobs
    assert responses.listens.qsize() == 1


async def test_a_lost_socket_is_made_again(client: AsyncClient, daemons: FakeDaemons, responses: FakeResponses) -> None:
    job = await client.submit(prompt="cat", count=2)
    request = await take(daemons)
    daemons.draw(request, 0, count=2)
    events = job.events()
    first = await anext(events)
    responses.cut()
    daemons.draw(request, 1, count=2)
    daemons.finish(request)
    assert indices([first, *[event async for event in events]]) == [0, 1]


async def test_reading_that_is_cancelled_again_and_again_loses_nothing(
    client: AsyncClient, daemons: FakeDaemons
) -> None:
    chance, pictures = random.Random(1), 60
    job = await client.submit(prompt="cat", count=pictures)
    request = await take(daemons)
    read: list[Event] = []
    events, cancelled = job.events(), 0

    async def read_on() -> None:
        async for event in events:
            read.append(event)  # noqa: PERF401 (it is to keep what came before it was cancelled)

    async def draw() -> None:
        for index in range(pictures):
            daemons.draw(request, index, count=pictures)
            await asyncio.sleep(chance.random() * 0.003)
        daemons.finish(request)

    drawing = asyncio.create_task(draw())
    while not read or not isinstance(read[-1], Done):
        reading = asyncio.create_task(read_on())
        await asyncio.wait({reading}, timeout=chance.random() * 0.003)
        cancelled += reading.cancel()
        await asyncio.wait({reading})
    await drawing
    assert indices(read) == list(range(pictures))
    assert cancelled > 10


async def test_a_wait_may_have_a_limit_of_asyncio(client: AsyncClient, daemons: FakeDaemons) -> None:
    job = await client.submit(prompt="cat")
    request, events = await take(daemons), job.events()
    for _ in range(2):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await anext(events)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(anext(events), 0.01)
    daemons.finish(request)
    assert [type(event) async for event in events] == [Done]


async def test_a_job_that_does_not_end_in_the_time_given_goes_on(client: AsyncClient, daemons: FakeDaemons) -> None:
    job = await client.submit(prompt="cat")
    events = job.events(timeout_seconds=0.01)
    for _ in range(2):
        with pytest.raises(TimedOut):
            await anext(events)
    await answer(daemons)
    assert [type(event) async for event in job] == [Image, Done]


@pytest.mark.parametrize(("named", "is_cancelled"), [({}, True), ({"id": "mine"}, False)])
async def test_a_drawing_that_is_cancelled_takes_its_job_with_it_unless_that_has_a_name(
    client: AsyncClient, daemons: FakeDaemons, named: dict[str, Any], is_cancelled: bool
) -> None:
    cancelled = watch_cancels(daemons)
    drawing = asyncio.create_task(client.draw(prompt="cat", **named))
    request = await take(daemons)
    drawing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await drawing
    await client.cancel("a mark")
    assert cancelled() == [request.id, "a mark"][not is_cancelled :]
    next_one = asyncio.create_task(client.draw(prompt="dog", **named))
    await answer(daemons)
    assert len(await next_one) == 1


async def test_whatever_is_cancelled_while_it_is_sent_the_client_goes_on(
    through_proxy: Settings, proxy: Proxy, daemons: FakeDaemons
) -> None:
    async with AsyncClient(through_proxy) as client:
        await client.enqueue(prompt="a cat before")
        await take(daemons)
        proxy.swallow_answers()
        calls = [client.submit(prompt="cat"), client.enqueue(prompt="cat"), client.cancel("it"), client.status()]
        waiting = [asyncio.ensure_future(call) for call in calls]
        requests = [await take(daemons) for _ in range(2)]
        for task in waiting:
            task.cancel()
        assert all(
            isinstance(e, asyncio.CancelledError) for e in await asyncio.gather(*waiting, return_exceptions=True)
        )
        proxy.cut()
        drawing = asyncio.create_task(client.draw(prompt="dog"))
        assert (await answer(daemons)).id not in {request.id for request in requests}
        assert len(await drawing) == 1


async def test_connecting_that_is_cancelled_is_no_end(client: AsyncClient, daemons: FakeDaemons) -> None:
    for moment in range(6):
        connecting = asyncio.create_task(client.connect())
        for _ in range(moment * 3):
            await asyncio.sleep(0)
        connecting.cancel()
        await asyncio.wait({connecting})
    drawing = asyncio.create_task(client.draw(prompt="cat"))
    await answer(daemons)
    assert len(await drawing) == 1


async def test_who_gives_up_does_not_give_up_for_the_others(
    client: AsyncClient, daemons: FakeDaemons, responses: FakeResponses
) -> None:
    responses.trouble = b'{"type":"error","code":"broker_away","message":"replies will come when it is back"}\n'
    impatient, patient = (asyncio.create_task(client.draw(prompt=prompt)) for prompt in ("cat", "dog"))
    await asyncio.sleep(0.1)
    impatient.cancel()
    responses.broker_is_back.set()
    request = await answer(daemons)
    assert request.fields["prompt"] == "dog"
    assert len(await patient) == 1
    assert responses.listens.qsize() == 1


async def test_closing_wakes_those_who_wait_and_leaves_nothing_behind(
    through_proxy: Settings, proxy: Proxy, daemons: FakeDaemons
) -> None:
    mine = {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}
    client = AsyncClient(through_proxy)
    job = await client.submit(prompt="cat")
    await take(daemons)
    proxy.swallow_answers()
    waiting = [asyncio.ensure_future(call) for call in (anext(job.events()), client.enqueue(prompt="dog"))]
    await take(daemons)
    await client.close()
    for error in await asyncio.gather(*waiting, return_exceptions=True):
        assert isinstance(error, ClientClosed)
    assert asyncio.all_tasks() == mine | {asyncio.current_task()}
    for call in (client.submit, client.enqueue, client.draw):
        with pytest.raises(ClientClosed):
            await call(prompt="cat")
    await client.close()


def test_each_event_loop_needs_a_client_of_its_own(settings: Settings, daemons: FakeDaemons) -> None:
    client = AsyncClient(settings)

    async def once() -> None:
        await client.enqueue(prompt="cat")
        await client.close()

    asyncio.run(once())
    with pytest.raises(BelongsElsewhere, match="another event loop"):
        asyncio.run(once())


async def test_errors_are_those_of_the_other_client(settings: Settings) -> None:
    async with AsyncClient(settings) as client:
        with pytest.raises(BrokerError, match="start stablediffusiond once"):
            await client.enqueue(prompt="cat")


class Cancels:
    """The ids that were cancelled, over the control exchange, since this was made."""

    def __init__(self, daemons: FakeDaemons) -> None:
        self._channel = daemons.channel
        self._queue = self._channel.queue_declare("", exclusive=True).method.queue
        self._channel.queue_bind(self._queue, daemons.topology.control)

    def __call__(self) -> list[str]:
        cancelled = []
        while (body := self._channel.basic_get(self._queue, auto_ack=True)[2]) is not None:
            cancelled.append(json.loads(body).get("cancel", ""))
        return [each for each in cancelled if each]


def watch_cancels(daemons: FakeDaemons) -> Cancels:
    return Cancels(daemons)
