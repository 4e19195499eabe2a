"""A wait of ``AsyncClient`` that is cancelled, or has a limit, takes nothing with it."""

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from stablediffusiond.client import AsyncClient, Done, Event, Image
from stablediffusiond.errors import TimedOut
from stablediffusiond.settings import Settings
from tests.client.awaited_daemons import Cancels, answer, take
from tests.client.fake_daemons import FakeDaemons, indices
from tests.client.fake_responses import PATIENCE_SECONDS, FakeResponses
from tests.client.proxy import Proxy


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[AsyncClient]:
    async with asyncio.timeout(2 * PATIENCE_SECONDS), AsyncClient(settings) as made:
        yield made


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
    cancelled = Cancels(daemons)
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
    responses.first_error = b'{"type":"error","code":"broker_away","message":"replies will come when it is back"}\n'
    impatient, patient = (asyncio.create_task(client.draw(prompt=prompt)) for prompt in ("cat", "dog"))
    await asyncio.sleep(0.1)
    impatient.cancel()
    responses.broker_is_back.set()
    request = await answer(daemons)
    assert request.fields["prompt"] == "dog"
    assert len(await patient) == 1
    assert responses.listens.qsize() == 1
