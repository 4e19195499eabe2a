"""How far A1111's clients' jobs are, and ending them: of the one that asks, since here several draw at once."""

import base64
from datetime import datetime
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from stablediffusiond.gateway.context import Context, client_of, context_of
from stablediffusiond.gateway.jobs import Job
from stablediffusiond.gateway.store.records import now


async def progress(request: Request) -> Response:
    """Of the client's job that was begun first."""
    jobs = _jobs(context_of(request), request)
    job = next((job for job in jobs if job.progress is not None), next(iter(jobs), None))
    with_image = request.query_params.get("skip_current_image", "false").lower() != "true"
    return JSONResponse(_progress(job, len(jobs), now(), with_image=with_image))


async def interrupt(request: Request) -> Response:
    """Cancel the client's jobs that are being drawn; what is finished of them is answered."""
    context = context_of(request)
    jobs = _jobs(context, request)
    begun = [job for job in jobs if job.progress is not None]
    for job in begun or jobs[:1]:
        await context.queue.cancel(job.id)
    return JSONResponse(None)


def _jobs(context: Context, request: Request) -> list[Job]:
    under_way = context.jobs.under_way(client_of(request).name)
    return [job for job in under_way if job.record.interface == "a1111" and job.is_published]


def _progress(job: Job | None, count: int, moment: datetime, *, with_image: bool) -> dict[str, Any]:
    done = 0.0 if job is None or job.progress is None else job.progress.step / job.progress.steps
    elapsed_seconds = 0.0 if job is None else (moment - job.record.created_at).total_seconds()
    steps = job.progress.steps if job is not None and job.progress is not None else 0
    previews = [] if job is None or not with_image else sorted(job.previews.items())
    image = base64.b64encode(previews[0][1].jpeg).decode() if previews else None
    return {
        "progress": done,
        "eta_relative": elapsed_seconds / done - elapsed_seconds if done else 0.0,
        "state": {
            "skipped": False,
            "interrupted": False,
            "stopping_generation": False,
            "job": "" if job is None else job.id,
            "job_count": count,
            "job_timestamp": "0" if job is None else job.record.created_at.strftime("%Y%m%d%H%M%S"),
            "job_no": 0 if job is None else len(job.images),
            "sampling_step": 0 if job is None or job.progress is None else job.progress.step,
            "sampling_steps": steps,
        },
        "current_image": image,
        "textinfo": None,
    }


ROUTES: Final = [
    Route("/sdapi/v1/progress", progress, methods=["GET"]),
    Route("/sdapi/v1/interrupt", interrupt, methods=["POST"]),
    # A job's pictures are drawn together here: to skip one is to end all.
    Route("/sdapi/v1/skip", interrupt, methods=["POST"]),
]
