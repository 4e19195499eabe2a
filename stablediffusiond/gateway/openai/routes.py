"""The paths of OpenAI's images API."""

from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from stablediffusiond.gateway import base64_json, bodies, waiting
from stablediffusiond.gateway.context import context_of
from stablediffusiond.gateway.errors import NotFound
from stablediffusiond.gateway.events import MEDIA_TYPE
from stablediffusiond.gateway.jobs import Job
from stablediffusiond.gateway.openai import answers, asked, edits
from stablediffusiond.messages.values import Body


async def post_generation(request: Request) -> Response:
    fields, asking = await bodies.read(request, "openai")
    what = await _read(request, fields)
    job = await context_of(request).submission.submit(what.fields, asking)
    return await _answer(request, job, what, "image_generation")


async def post_edit(request: Request) -> Response:
    fields, body = await edits.read_form(request)
    what = await _read(request, fields)
    job = await context_of(request).submission.submit(what.fields, bodies.asking(request, "openai", body))
    return await _answer(request, job, what, "image_edit")


async def get_models(request: Request) -> Response:
    return JSONResponse(
        {"object": "list", "data": [_model(name) for name in await context_of(request).service.models()]}
    )


async def get_model(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in (known := await context_of(request).service.models()):
        raise NotFound(f"there is no model {name!r}; known: {', '.join(known)}")
    return JSONResponse(_model(name))


async def _read(request: Request, fields: Body) -> asked.Asked:
    """Only who names a model of OpenAI's need wait for the names of ours."""
    return asked.read(fields, await context_of(request).service.models() if asked.names_model_of_openai(fields) else [])


async def _answer(request: Request, job: Job, what: asked.Asked, kind: answers.Kind) -> Response:
    context = context_of(request)
    if not what.stream:
        await waiting.until_done(context, request, job)
        return await base64_json.response(answers.images(context, request, job, what))

    async def pieces() -> Any:
        async with waiting.cancelling_if_left(context, request, job):
            async for piece in answers.StreamedImages(context, job, what, kind):
                yield piece

    return StreamingResponse(pieces(), media_type=MEDIA_TYPE, headers={"Cache-Control": "no-cache"})


def _model(name: str) -> dict[str, object]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "stablediffusiond"}


ROUTES: Final = [
    Route("/v1/images/generations", post_generation, methods=["POST"]),
    Route("/v1/images/edits", post_edit, methods=["POST"]),
    Route("/v1/models", get_models, methods=["GET"]),
    Route("/v1/models/{name:path}", get_model, methods=["GET"]),
]
