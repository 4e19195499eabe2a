"""How the service is, for programs that watch over it."""

from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from stablediffusiond.gateway.context import client_of, context_of


async def get_status(request: Request) -> Response:
    """What ``stablediffusion_client status --json`` prints; ids of jobs only for who may operate."""
    status = await context_of(request).service.status()
    shown = status.model_dump(mode="json", exclude_none=True)
    if client_of(request).role != "operate":
        for worker in shown["workers"]:
            for job in worker["jobs"]:
                job.pop("id", None)
    return JSONResponse(shown)


async def get_health(request: Request) -> Response:
    """200 where jobs are taken and their pictures come; else 503, and why."""
    context = context_of(request)
    troubles = [] if context.queue.is_listening else ["the response daemon, or its broker, is away: no pictures come"]
    troubles += [context.replies.trouble] if context.replies.trouble else []
    return JSONResponse({"healthy": not troubles, "troubles": troubles}, 503 if troubles else 200)


ROUTES: Final = [
    Route("/status", get_status, methods=["GET"]),
    Route("/healthz", get_health, methods=["GET"]),
]
