"""From a program with an event loop: the same names, awaited."""

import asyncio
import base64
import inspect
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from stablediffusiond.client import AsyncClient, AsyncJob, Client, Done, Job, Progress
from stablediffusiond.errors import BelongsElsewhere, BrokerError, ClientClosed, JobFailed
from stablediffusiond.messages.request import Request
from stablediffusiond.settings import Settings
from tests.client.awaited_daemons import Cancels, answer, take
from tests.client.fake_daemons import FakeDaemons, indices, png
from tests.client.fake_responses import PATIENCE_SECONDS, FakeResponses
from tests.client.proxy import Proxy


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[AsyncClient]:
    async with asyncio.timeout(2 * PATIENCE_SECONDS), AsyncClient(settings) as made:
        yield made


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
    cancelled = Cancels(daemons)
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
