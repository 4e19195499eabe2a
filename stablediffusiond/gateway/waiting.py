"""Waiting for a job on behalf of a client, who may lose patience or leave."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

from starlette.requests import Request

from stablediffusiond.errors import InvalidRequest, JobFailed
from stablediffusiond.gateway.context import Context
from stablediffusiond.gateway.errors import NotDrawnYet, Unavailable
from stablediffusiond.gateway.jobs import Job
from stablediffusiond.messages.replies import Failed


async def until_done(context: Context, request: Request, *jobs: Job) -> None:
    """Wait for the end of all ``jobs``.

    If a client leaves, they are drawn all the same, unless it asked for the opposite: ``?on_disconnect=cancel``.

    Raises:
        JobFailed: one failed; that one was cancelled only if none has failed otherwise.
        NotDrawnYet: it takes longer than clients are left waiting.
        Unavailable: the gateway stops; the jobs go on.
    """
    ended = asyncio.create_task(_until_ended(jobs))
    left = asyncio.create_task(_disconnected(request))
    try:
        async with cancelling_if_left(context, request, *jobs):
            await asyncio.wait(
                {ended, left}, timeout=context.settings.max_wait_seconds, return_when=asyncio.FIRST_COMPLETED
            )
    finally:
        ended.cancel()
        left.cancel()
    failures = [job.end.error for job in jobs if isinstance(job.end, Failed)]
    for error in sorted(failures, key=lambda error: error.code == "cancelled"):
        raise JobFailed(error.code, error.message, field=error.field)
    for job in jobs:
        if not job.has_ended:
            if context.jobs.is_closing:
                raise Unavailable(f"the gateway stops; job {job.id} goes on: GET /jobs/{job.id}")
            raise NotDrawnYet(f"job {job.id} takes longer than this; it goes on: GET /jobs/{job.id}")


async def _until_ended(jobs: Sequence[Job]) -> None:
    for job in jobs:
        await job.until_ended()


@contextlib.asynccontextmanager
async def cancelling_if_left(context: Context, request: Request, *jobs: Job) -> AsyncIterator[None]:
    """Around what is sent to a client: if that ends before a job does, the job is cancelled, if asked for."""
    asked = cancels_on_disconnect(request)
    try:
        yield
    finally:
        for job in jobs:
            if asked and not job.has_ended and not context.jobs.is_closing:
                context.queue.cancel_if_possible(job.id)


def cancels_on_disconnect(request: Request) -> bool:
    """Raises InvalidRequest."""
    asked = request.query_params.get("on_disconnect", "keep")
    if asked not in {"keep", "cancel"}:
        raise InvalidRequest("'on_disconnect' must be keep or cancel", field="on_disconnect")
    return asked == "cancel"


async def _disconnected(request: Request) -> None:
    """Return when the client has left; its body has been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
