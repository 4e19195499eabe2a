"""Forks while an ``AsyncClient`` waits for a job, and draws in parent and child, each with an event loop of its own."""

import asyncio
import json
import os
import sys
from typing import Any

from stablediffusiond.client import AsyncClient, AsyncJob
from stablediffusiond.errors import BelongsElsewhere


async def seen(client: AsyncClient, of_parent: AsyncJob) -> dict[str, Any]:
    try:
        refusal = f"read: {[event async for event in of_parent]}"
    except BelongsElsewhere as error:
        refusal = str(error)
    job = await client.submit(prompt="of a child", timeout_seconds=60)
    events = [type(event).__name__ async for event in job.events(timeout_seconds=60)]
    await client.close()
    return {"queue": client.queue, "refusal": refusal, "events": events}


async def main() -> None:
    async with AsyncClient() as client:
        job = await client.submit(prompt="of the parent")
        reading = asyncio.ensure_future(anext(job.events()))
        await asyncio.sleep(0)
        child = os.fork()
        if not child:
            print(json.dumps(asyncio.run(seen(client, job))), flush=True)
            os._exit(0)
        await asyncio.to_thread(os.waitpid, child, 0)
        sys.stdin.readline()
        events = [await reading, *[event async for event in job.events(timeout_seconds=60)]]
        print(json.dumps([type(event).__name__ for event in events]))


asyncio.run(main())
