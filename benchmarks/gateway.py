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
from collections.abc import Awaitable, Callable, Coroutine
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
PICTURES: Final = 100
SMALL: Final[dict[str, Any]] = {"prompt": "a red cat", "width": 64, "height": 64, "steps": 100}
WARM_UP_SECONDS: Final = 4
MEASURED_SECONDS: Final = 8
POLLING: Final = 200
STREAMING: Final = 50
POLL_SECONDS: Final = 1.0


async def through_library(library: AsyncClient) -> None:
    async for _ in await library.submit(**JOB):
        pass


async def through_openai(client: httpx.AsyncClient) -> None:
    body = {"prompt": "a red cat", "size": "512x512", "steps": 4}
    (await client.post("/v1/images/generations", json=body)).raise_for_status()


async def through_events(client: httpx.AsyncClient) -> None:
    """``POST /jobs``, its events to the end, and the file."""
    job = (await client.post("/jobs", json=JOB)).json()["id"]
    async with client.stream("GET", f"/jobs/{job}/events") as events:
        async for _ in events.aiter_lines():
            pass
    (await client.get(f"/jobs/{job}/images/0")).raise_for_status()


async def in_turn(served: Running, client: httpx.AsyncClient) -> None:
    """Each way after the other, so that what else this machine does meets all of them."""
    async with AsyncClient(served.settings) as library:
        await library.connect()
        ways: dict[str, Callable[[], Awaitable[None]]] = {
            "the library": lambda: through_library(library),
            "OpenAI's API": lambda: through_openai(client),
            "/jobs and its events": lambda: through_events(client),
        }
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(PICTURES):
            for way, draw in ways.items():
                began = time.perf_counter()
                await draw()
                seconds[way].append(time.perf_counter() - began)
    for way, measured in seconds.items():
        more = [each - other for each, other in zip(measured, seconds["the library"], strict=True)]
        say(f"a picture through {way}, ms", milliseconds(measured))
        say("  more than through the library, ms", milliseconds(more))


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
        await in_turn(served, client)
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
