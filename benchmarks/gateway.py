"""What the gateway costs: a picture through it and through the library, its memory, and the engine under many clients.

    python -m benchmarks.gateway

The request daemon has no model and makes a hundred steps a second (``tests/gateway/drawing.py``), so that
what is measured is the way of a picture and not its drawing.
"""

import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Final

import httpx
import psutil

from stablediffusiond.client import AsyncClient
from tests.gateway.conftest import Running, running
from tests.preloaded import Preloaded
from tools.daemons import Daemon
from tools.private_broker import PrivateBroker

JOB: Final[dict[str, Any]] = {"prompt": "a red cat", "width": 512, "height": 512, "steps": 4}
PICTURES: Final = 40
SMALL: Final[dict[str, Any]] = {"prompt": "a red cat", "width": 64, "height": 64, "steps": 100}
WARM_UP_SECONDS: Final = 4
MEASURED_SECONDS: Final = 8
POLLING: Final = 200
STREAMING: Final = 50
POLL_SECONDS: Final = 1.0


async def through_library(served: Running) -> list[float]:
    async with AsyncClient(served.settings) as client:
        await client.connect()
        seconds = []
        for _ in range(PICTURES):
            began = time.perf_counter()
            job = await client.submit(**JOB)
            async for _ in job:
                pass
            seconds.append(time.perf_counter() - began)
        return seconds


async def through_openai(client: httpx.AsyncClient) -> list[float]:
    seconds = []
    body = {"prompt": "a red cat", "size": "512x512", "steps": 4}
    for _ in range(PICTURES):
        began = time.perf_counter()
        answer = await client.post("/v1/images/generations", json=body)
        answer.raise_for_status()
        seconds.append(time.perf_counter() - began)
    return seconds


async def through_events(client: httpx.AsyncClient) -> list[float]:
    """``POST /jobs``, its events to the end, and the file."""
    seconds = []
    for _ in range(PICTURES):
        began = time.perf_counter()
        job = (await client.post("/jobs", json=JOB)).json()["id"]
        async with client.stream("GET", f"/jobs/{job}/events") as events:
            async for _ in events.aiter_lines():
                pass
        (await client.get(f"/jobs/{job}/images/0")).raise_for_status()
        seconds.append(time.perf_counter() - began)
    return seconds


async def library_client(client: AsyncClient, drawn: list[float]) -> None:
    while True:
        async for _ in await client.submit(**SMALL):
            pass
        drawn.append(time.perf_counter())


async def request(port: int, method: str, path: str, body: bytes = b"", *, until: bytes = b"") -> bytes:
    """The answer, read to its end or to ``until``. A client that costs nothing: httpx takes ten times what we do."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    try:
        return await (reader.readuntil(until) if until else reader.read())
    finally:
        writer.close()


async def streaming_client(port: int, drawn: list[float]) -> None:
    while True:
        answer = await request(port, "POST", "/jobs", json.dumps(SMALL).encode())
        job = json.loads(answer.partition(b"\r\n\r\n")[2])["id"]
        await request(port, "GET", f"/jobs/{job}/events", until=b"event: done")
        drawn.append(time.perf_counter())


async def polling_client(port: int, job: str) -> None:
    while True:
        assert (await request(port, "GET", f"/jobs/{job}")).startswith(b"HTTP/1.1 200")
        await asyncio.sleep(POLL_SECONDS)


async def pictures_a_second(*clients: Coroutine[Any, Any, None], drawn: list[float]) -> float:
    """While all of ``clients`` run, which note in ``drawn`` when they had a picture."""
    tasks = [asyncio.create_task(each) for each in clients]
    await asyncio.sleep(WARM_UP_SECONDS)
    drawn.clear()
    await asyncio.sleep(MEASURED_SECONDS)
    count = len(drawn)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return round(count / MEASURED_SECONDS, 1)


async def measure(served: Running) -> None:
    limits = httpx.Limits(max_connections=1000, max_keepalive_connections=1000)
    process = psutil.Process(served.daemon.process.pid)
    async with httpx.AsyncClient(base_url=served.address, timeout=60, trust_env=False, limits=limits) as client:
        say("a picture through the library, ms", milliseconds(await through_library(served)))
        say("a picture through OpenAI's API, ms", milliseconds(await through_openai(client)))
        say("a picture through /jobs and its events, ms", milliseconds(await through_events(client)))
        say("memory, MB", process.memory_info().rss / 1e6)
        job = (await client.get("/jobs?limit=1")).json()["jobs"][0]["id"]
        drawn: list[float] = []
        async with AsyncClient(served.settings, progress=True, previews=True) as library:
            others = [library_client(library, drawn) for _ in range(STREAMING)]
            say(f"pictures a second, {STREAMING} clients of the library", await pictures_a_second(*others, drawn=drawn))
        streams = [streaming_client(served.daemon.port(), drawn) for _ in range(STREAMING)]
        polls = [polling_client(served.daemon.port(), job) for _ in range(POLLING)]
        rate = await pictures_a_second(*streams, *polls, drawn=drawn)
        say(f"pictures a second, {STREAMING} streams of the gateway and {POLLING} polls a second", rate)
        say("memory, MB", process.memory_info().rss / 1e6)


def with_default_progress(environment: dict[str, str]) -> Daemon:
    """The tests have progress twenty-five times as often as a daemon sends it."""
    others = {name: value for name, value in environment.items() if "PROGRESS_INTERVAL" not in name}
    return Preloaded("tests.gateway.drawing", others)


def milliseconds(seconds: list[float]) -> float:
    return statistics.median(seconds) * 1000


def say(what: str, figure: float) -> None:
    print(f"{what}: {figure:.1f}", flush=True)


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        PrivateBroker() as broker,
        running(broker, Path(folder), {"max_connections": "2000"}, draws=with_default_progress) as served,
    ):
        asyncio.run(measure(served))


if __name__ == "__main__":
    main()
