"""Clients that ask with a key and read events to the end, while daemons and the broker are killed; and what came of it."""

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.gateway.conftest import BODY, Running
from tests.preloaded import Preloaded, gateway, response_daemon

_STEPS = 30
#: Pictures that are drawn again at once, to compare.
_AT_ONCE = 20


def kill_gateway(served: Running) -> None:
    served.daemon.kill()
    served.daemon.close()
    served.daemon = gateway(served.environment).wait_ready()


def kill_response_daemon(served: Running) -> None:
    served.responsed.kill()
    served.responsed.close()
    served.responsed = response_daemon(served.environment).wait_ready()


def kill_request_daemon(served: Running) -> None:
    served.requestd.kill()
    served.requestd.close()
    served.requestd = Preloaded("tests.gateway.drawing", served.environment).wait_ready()


def kill_broker(served: Running) -> None:
    served.broker.restart()


KILLS: list[Callable[[Running], None]] = [kill_gateway, kill_response_daemon, kill_request_daemon, kill_broker]


class Reader:
    """A client that asks for one picture, with a key, and reads its events to the end, however often it has to begin."""

    def __init__(self, client: httpx.AsyncClient, number: int) -> None:
        self._client = client
        self.number = number
        self.ids: set[str] = set()
        self.names: list[str] = []
        self.last = "0"

    async def run(self) -> None:
        while not self.ids or "done" not in self.names:
            try:
                await self._try()
            except httpx.HTTPError:
                await asyncio.sleep(0.2)  # what it asked is being started again

    async def _try(self) -> None:
        key = {"Idempotency-Key": f"job {self.number}"}
        answer = await self._client.post("/jobs", json=body_of(self.number), headers=key)
        if answer.status_code == 503:
            await asyncio.sleep(0.2)  # Retry-After, for the impatient
            return
        assert answer.status_code == 202, answer.text
        job = answer.json()["id"]
        self.ids.add(job)
        async with self._client.stream("GET", f"/jobs/{job}/events", headers={"Last-Event-ID": self.last}) as events:
            async for line in events.aiter_lines():
                field, _, value = line.partition(": ")
                if field == "id":
                    self.last = value
                if field == "event" and value in {"image", "done", "failed"}:
                    self.names.append(value)


@dataclass
class Outcome:
    """Numbers of jobs."""

    lost: list[int] = field(default_factory=list)  #: no picture, no end, or no file
    wrong: list[int] = field(default_factory=list)  #: not the picture that is drawn without faults
    twice: list[int] = field(default_factory=list)  #: more than one job, or picture, for a key
    jobs: int = 0  #: in the store


async def endure(
    served: Running, kills: Sequence[Callable[[Running], None]], jobs: int, pause_seconds: float, burst_seconds: float
) -> Outcome:
    """As many clients before each kill, at random moments; between them, time to recover."""
    order = random.Random(31)
    limits = httpx.Limits(max_connections=200)
    async with httpx.AsyncClient(base_url=served.address, timeout=20, trust_env=False, limits=limits) as client:
        readers = [Reader(client, number) for number in range(jobs)]
        tasks = []
        for place, kill in enumerate(kills):
            await asyncio.sleep(pause_seconds)
            share = readers[place * jobs // len(kills) : (place + 1) * jobs // len(kills)]
            tasks += [asyncio.create_task(later(order.uniform(0, burst_seconds), reader)) for reader in share]
            await asyncio.sleep(burst_seconds)  # so that some of them are drawn, and others not
            await asyncio.to_thread(kill, served)
        await asyncio.gather(*tasks)
        return await outcome(client, readers)


async def later(seconds: float, reader: Reader) -> None:
    await asyncio.sleep(seconds)
    await reader.run()


async def outcome(client: httpx.AsyncClient, readers: Sequence[Reader]) -> Outcome:
    """When nothing is killed any more."""
    found = Outcome(jobs=await count(client))
    slots = asyncio.Semaphore(_AT_ONCE)

    async def check(reader: Reader) -> None:
        if len(reader.ids) != 1 or reader.names.count("image") > 1:
            found.twice.append(reader.number)
        async with slots:
            pictures = [await picture(client, job) for job in reader.ids]
            if reader.names[-1:] != ["done"] or None in pictures:
                found.lost.append(reader.number)
            elif set(pictures) != {await drawn_again(client, reader.number)}:
                found.wrong.append(reader.number)

    await asyncio.gather(*map(check, readers))
    return found


async def count(client: httpx.AsyncClient) -> int:
    """All jobs that the gateway has."""
    found = 0
    before: dict[str, str] = {}
    while jobs := (await client.get("/jobs", params={"limit": 100, **before})).json()["jobs"]:
        found += len(jobs)
        before = {"before": jobs[-1]["id"]}
    return found


async def picture(client: httpx.AsyncClient, job: str) -> bytes | None:
    answer = await client.get(f"/jobs/{job}/images/0")
    return answer.content if answer.status_code == 200 else None


async def drawn_again(client: httpx.AsyncClient, number: int) -> bytes | None:
    """The same request, without faults: the same bytes."""
    job = (await client.post("/jobs", json=body_of(number))).json()["id"]
    await client.get(f"/jobs/{job}/events")
    return await picture(client, job)


def body_of(number: int) -> dict[str, Any]:
    return {**BODY, "seed": number, "steps": _STEPS}
