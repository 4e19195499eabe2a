"""How far A1111's clients' jobs are, and ending them: of the one that asks, since here several draw at once."""

import base64
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from stablediffusiond.gateway.context import client_of, context_of
from stablediffusiond.gateway.jobs import Job
from stablediffusiond.gateway.store.records import now


async def progress(request: Request) -> Response:
    """Of what the client has asked for, the request of which something is drawn, else the first."""
    drawings = _drawings(request)
    begun = [jobs for jobs in drawings if any(map(_is_begun, jobs))]
    with_image = request.query_params.get("skip_current_image", "false").lower() != "true"
    return JSONResponse(_progress(next(iter(begun or drawings), []), now(), with_image=with_image))


async def interrupt(request: Request) -> Response:
    """Cancel what is being drawn of the client's, whole requests; what is finished of them is answered."""
    context = context_of(request)
    drawings = _drawings(request)
    begun = [jobs for jobs in drawings if any(map(_is_begun, jobs))]
    for jobs in begun or drawings[:1]:
        for job in jobs:
            if not job.has_ended:
                await context.queue.cancel(job.id)
    return JSONResponse(None)


async def skip(request: Request) -> Response:
    """Cancel one iteration, the first that is being drawn; the others go on."""
    context = context_of(request)
    jobs = [job for drawing in _drawings(request) for job in drawing]
    if (job := next(filter(_is_begun, jobs), None)) is not None:
        await context.queue.cancel(job.id)
    return JSONResponse(None)


def _drawings(request: Request) -> list[Sequence[Job]]:
    """What the client has asked for and has not ended, request by request."""
    context, client = context_of(request), client_of(request).name
    under_way = [job for job in context.jobs.under_way(client) if job.record.interface == "a1111" and job.is_published]
    return context.drawings.of(client, under_way)


def _is_begun(job: Job) -> bool:
    return job.progress is not None and not job.has_ended


def _progress(jobs: Sequence[Job], moment: datetime, *, with_image: bool) -> dict[str, Any]:
    job = next(filter(_is_begun, jobs), next((job for job in jobs if not job.has_ended), None))
    done = sum(_done(each) for each in jobs) / len(jobs) if jobs else 0.0
    elapsed_seconds = (moment - jobs[0].record.created_at).total_seconds() if jobs else 0.0
    at = None if job is None else job.progress
    previews = [] if job is None or not with_image else sorted(job.previews.items())
    return {
        "progress": done,
        "eta_relative": elapsed_seconds / done - elapsed_seconds if done else 0.0,
        "state": {
            "skipped": False,
            "interrupted": False,
            "stopping_generation": False,
            "job": "" if job is None else job.id,
            "job_count": len(jobs),
            "job_timestamp": jobs[0].record.created_at.strftime("%Y%m%d%H%M%S") if jobs else "0",
            "job_no": sum(each.has_ended for each in jobs),
            "sampling_step": 0 if at is None else at.step,
            "sampling_steps": 0 if at is None else at.steps,
        },
        "current_image": base64.b64encode(previews[0][1].jpeg).decode() if previews else None,
        "textinfo": None,
    }


def _done(job: Job) -> float:
    if job.has_ended:
        return 1.0
    return 0.0 if job.progress is None else job.progress.step / job.progress.steps


ROUTES: Final = [
    Route("/sdapi/v1/progress", progress, methods=["GET"]),
    Route("/sdapi/v1/interrupt", interrupt, methods=["POST"]),
    Route("/sdapi/v1/skip", skip, methods=["POST"]),
]
