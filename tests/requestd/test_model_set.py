"""Jobs wait for their models, which come and go: with a loader that the test decides about."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from stablediffusiond.engine.capacity import Capacity
from stablediffusiond.engine.job import Kind
from stablediffusiond.engine.loaded_model import LoadedModel
from stablediffusiond.engine.loaded_models import LoadedModels
from stablediffusiond.errors import ModelError, ModelUnavailable
from stablediffusiond.messages.request import Priority
from stablediffusiond.requestd.model_set import ModelSet
from tests.engine.fake import FakeDenoiser


def model(nbytes: int = 4) -> LoadedModel:
    return LoadedModel(FakeDenoiser(), Capacity(Kind(64, 64), {1: 0.01}), nbytes)


class Models:
    """``a`` is there; there is room for two of the same size."""

    def __init__(self, most_bytes: int = 8, max_wait_seconds: float = 1000) -> None:
        self.loaded = LoadedModels("a", model())
        self.asked: list[str] = []
        self.answers: dict[str, asyncio.Future[LoadedModel]] = {}
        self.unloaded: list[str] = []
        self.host_bytes: dict[str, int] = {}
        self.set = ModelSet(
            self.loaded, self, most_bytes=most_bytes, max_wait_seconds=max_wait_seconds, on_change=lambda: None
        )

    def bytes_of(self, _: str) -> int:
        return 4

    async def unload(self, name: str, _: LoadedModel) -> None:
        self.unloaded.append(name)

    async def load_beside(self, name: str) -> LoadedModel:
        self.asked.append(name)
        self.answers[name] = asyncio.get_running_loop().create_future()
        return await self.answers[name]

    async def until_asked(self, *names: str) -> None:
        while self.asked != list(names):
            await asyncio.sleep(0)

    def answer(self, name: str, answer: LoadedModel | Exception | None = None) -> None:
        if isinstance(answer, Exception):
            self.answers[name].set_exception(answer)
        else:
            self.answers[name].set_result(answer or model())

    @asynccontextmanager
    async def job(self, name: str, priority: Priority = "normal") -> AsyncIterator[asyncio.Task[None]]:
        """A job that holds its model from when it has it until this ends."""
        done = asyncio.Event()

        async def hold() -> None:
            async with self.set.using(name, priority):
                given.set()
                await done.wait()

        given = asyncio.Event()
        task = asyncio.create_task(hold())
        task.has = given  # type: ignore[attr-defined]
        try:
            yield task
        finally:
            done.set()
            if not given.is_set():
                task.cancel()
            await asyncio.wait([task])


def has(task: asyncio.Task[None]) -> bool:
    return bool(task.has.is_set())  # type: ignore[attr-defined]


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_model_that_is_there_need_not_be_waited_for() -> None:
    models = Models()
    async with models.job("a") as job:
        await settle()
        assert has(job)
        assert models.asked == []


async def test_another_is_loaded_beside_it_while_jobs_go_on() -> None:
    models = Models()
    async with models.job("b") as job:
        await models.until_asked("b")
        [_, status] = models.set.status()
        assert (status.name, status.state, status.waiting, status.nbytes) == ("b", "loading", 1, None)
        async with models.job("a") as other:
            await settle()
            assert has(other)
            assert not has(job)
        models.answer("b")
        await settle()
        assert has(job)
        assert models.loaded.names == ["a", "b"]


async def test_the_longest_unused_makes_room_and_one_in_use_does_not() -> None:
    models = Models()
    async with models.job("b") as job:
        await models.until_asked("b")
        models.answer("b")
        await settle()
        assert has(job)
        async with models.job("c") as third:
            await models.until_asked("b", "c")
            assert models.loaded.names == ["b"], "a was idle"
            models.answer("c")
            await settle()
            assert has(third)
            async with models.job("a") as waiting:
                await settle()
                assert models.asked == ["b", "c"], "both are in use, and nobody has waited long"
                assert not has(waiting)
                assert models.set.status()[-1].state == "waiting"
                waiting.cancel()


async def test_who_is_overdue_gets_the_place_of_one_in_use_and_that_one_gets_no_further_job() -> None:
    models = Models(most_bytes=4, max_wait_seconds=0)
    async with AsyncExitStack() as jobs:
        async with models.job("a"):
            await settle()
            overdue = await jobs.enter_async_context(models.job("b"))
            late = await jobs.enter_async_context(models.job("a"))
            await settle()
            assert models.asked == []
            assert not has(late), "a makes room, and so takes no more"
        await models.until_asked("b")
        models.answer("b")
        await settle()
        assert has(overdue)
        assert models.loaded.names == ["b"]


async def test_high_priority_waits_for_nobody_s_turn() -> None:
    models = Models(most_bytes=4)
    async with AsyncExitStack() as jobs:
        async with models.job("a"):
            await settle()
            await jobs.enter_async_context(models.job("b"))
            await jobs.enter_async_context(models.job("c", "high"))
            await settle()
        await models.until_asked("c")
        models.answer("c")


async def test_a_model_that_cannot_be_loaded_fails_its_jobs_and_is_let_be_for_a_while() -> None:
    models = Models()
    async with models.job("b") as job, models.job("a") as other:
        await models.until_asked("b")
        models.answer("b", ModelUnavailable("it is a web page"))
        await settle()
        assert isinstance(job.exception(), ModelError)
        assert str(job.exception()) == "the model 'b' cannot be loaded: it is a web page"
        assert has(other)
    with pytest.raises(ModelError, match="a web page"):
        async with models.set.using("b", "normal"):
            pass
    assert models.asked == ["b"], "it is not tried again at once"


async def test_a_bug_in_loading_ends_the_jobs_with_it_and_nobody_hangs() -> None:
    models = Models()
    async with models.job("b") as job:
        await models.until_asked("b")
        models.answer("b", ZeroDivisionError("a bug"))
        await settle()
        assert isinstance(job.exception(), ZeroDivisionError)


async def test_a_job_that_is_cancelled_is_waited_for_by_nobody() -> None:
    models = Models(most_bytes=4)
    async with models.job("a"), models.job("b") as job:
        await settle()
        job.cancel()
        await settle()
        assert [status.name for status in models.set.status()] == ["a"]
    await settle()
    assert models.asked == []


async def test_one_that_is_cancelled_as_its_model_comes_gives_it_back() -> None:
    models = Models()
    async with models.job("b") as job:
        await models.until_asked("b")
        models.answer("b")
        while models.set.status()[-1].state != "resident":
            await asyncio.sleep(0)
        job.cancel()
        await settle()
    assert [status.jobs for status in models.set.status()] == [0, 0]


async def test_a_model_that_turns_out_larger_than_its_files_has_others_go() -> None:
    models = Models()
    async with models.job("b") as job:
        await models.until_asked("b")
        models.answer("b", model(nbytes=7))
        await settle()
        assert has(job)
        assert models.loaded.names == ["b"]
