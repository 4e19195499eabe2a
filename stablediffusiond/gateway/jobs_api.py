"""Our own interface: jobs, their events, and their pictures."""

import dataclasses
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from stablediffusiond.errors import InvalidRequest
from stablediffusiond.gateway import bodies, by_method, waiting, webhooks
from stablediffusiond.gateway.context import Context, client_of, context_of
from stablediffusiond.gateway.errors import NotFound
from stablediffusiond.gateway.events import MEDIA_TYPE, JobEvents
from stablediffusiond.gateway.job_view import job_view
from stablediffusiond.gateway.jobs import Job
from stablediffusiond.gateway.store.records import StoredImage
from stablediffusiond.gateway.submission import Asking
from stablediffusiond.messages.values import Body

_MOST_JOBS: Final = 100
_PRIVATE: Final = {"Cache-Control": "private, max-age=86400, immutable"}


async def post_job(request: Request) -> Response:
    """Any body of docs/protocol.md, or a list of them."""
    context = context_of(request)
    several = await bodies.read_list(request, "jobs", _MOST_JOBS)
    if several is not None:
        jobs = await context.submission.submit_all([_with_webhook(context, *each) for each in several])
        return JSONResponse({"jobs": [job_view(context, context.base(request), job) for job in jobs]}, 202)
    fields, asking = _with_webhook(context, *await bodies.read(request, "jobs"))
    job = await context.submission.submit(fields, asking)
    view = job_view(context, context.base(request), job)
    return JSONResponse(view, 202, {"Location": f"/jobs/{job.id}"})


def _with_webhook(context: Context, fields: Body, asking: Asking) -> tuple[Body, Asking]:
    rest, webhook = webhooks.taken_from(fields, context.settings)
    return rest, dataclasses.replace(asking, webhook=webhook)


async def list_jobs(request: Request) -> Response:
    """The newest first."""
    context = context_of(request)
    most = _whole(request.query_params.get("limit", "20"), "limit", _MOST_JOBS)
    views: list[dict[str, Any]] = []
    for job_id in context.jobs.index.newest(client_of(request).sees, request.query_params.get("before")):
        if len(views) == most:
            break
        if (job := await context.jobs.get(job_id)) is not None:
            views.append(job_view(context, context.base(request), job))
    return JSONResponse({"jobs": views})


async def get_job(request: Request) -> Response:
    context = context_of(request)
    return JSONResponse(job_view(context, context.base(request), await context.job(request)))


async def delete_job(request: Request) -> Response:
    """Cancel a job that is under way; delete one that has ended, or that the broker may not have."""
    context = context_of(request)
    job = await context.job(request)
    if not job.is_published:
        context.queue.cancel_if_possible(job.id)
    if job.has_ended or not job.is_published:
        await context.jobs.delete(job.id)
        return Response(status_code=204)
    await context.queue.cancel(job.id)
    return JSONResponse(job_view(context, context.base(request), job), 202)


async def get_events(request: Request) -> Response:
    """What comes of a job, as it comes; a reader that comes again says what it had in ``Last-Event-ID``."""
    context = context_of(request)
    job = await context.job(request)
    events = JobEvents(context, request, job)
    waiting.cancels_on_disconnect(request)
    if events.is_over:  # by which a browser knows that it need not come again
        return Response(status_code=204)

    async def lines() -> Any:
        async with waiting.cancelling_if_left(context, request, job):
            async for event in events:
                yield event

    return StreamingResponse(lines(), media_type=MEDIA_TYPE, headers={"Cache-Control": "no-cache"})


async def get_image(request: Request) -> Response:
    """A picture's file, for who may see the job."""
    context = context_of(request)
    job = await context.job(request)
    image = job.images.get(request.path_params["index"])
    if image is None:
        raise NotFound(f"the job has no picture {request.path_params['index']} yet; it asks for {job.record.count}")
    return await _file(context, job, image)


async def get_picture(request: Request) -> Response:
    """A picture's file, for who has its address."""
    context = context_of(request)
    job_id, name = request.path_params["id"], request.path_params["file"]
    context.links.check(job_id, name, request.query_params.get("until", ""), request.query_params.get("key", ""))
    job = await context.jobs.get(job_id)
    image = next((image for image in job.images.values() if image.file == name), None) if job is not None else None
    if job is None or image is None:
        raise NotFound("this picture is not kept any more")
    return await _file(context, job, image)


async def _file(context: Context, job: Job, image: StoredImage) -> Response:
    """In pieces, out of the store."""
    named = {"Content-Disposition": f'inline; filename="{job.id}-{image.file}"', "Content-Length": str(image.bytes)}
    try:
        pieces = await context.jobs.file(job.id, image).stream()
    except FileNotFoundError:
        raise NotFound("this picture is not kept any more") from None
    return StreamingResponse(pieces, media_type=image.content_type, headers={**named, **_PRIVATE})


def _whole(text: str, name: str, most: int) -> int:
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text[:9]) <= most:
        raise InvalidRequest(f"{name!r} must be a number from 1 to {most}", field=name)
    return int(text)


ROUTES: Final = [
    by_method.route("/jobs", GET=list_jobs, POST=post_job),
    by_method.route("/jobs/{id}", GET=get_job, DELETE=delete_job),
    Route("/jobs/{id}/events", get_events, methods=["GET"]),
    Route("/jobs/{id}/images/{index:int}", get_image, methods=["GET"]),
    Route("/pictures/{id}/{file}", get_picture, methods=["GET"]),
]
