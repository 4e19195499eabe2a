"""The paths of A1111's that draw."""

import html
from collections.abc import Mapping, Sequence
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from stablediffusiond.errors import InvalidRequest, JobFailed
from stablediffusiond.gateway import base64_json, bodies, waiting
from stablediffusiond.gateway.a1111 import iterations
from stablediffusiond.gateway.a1111.info import info
from stablediffusiond.gateway.context import Context, client_of, context_of
from stablediffusiond.gateway.jobs import Job
from stablediffusiond.gateway.store.files import StoredFile
from stablediffusiond.gateway.submission import Asking
from stablediffusiond.messages.values import Body, asks_for_nothing

#: They would make the answer as large again, and who asked has them.
_PICTURES: Final = ("init_images", "mask", "image")
_EXTRAS: Final = "/sdapi/v1/extra-single-image"
#: Fields of an upscale that change nothing here.
_EXTRAS_IGNORED: Final = frozenset(
    {
        "resize_mode", "show_extras_results", "codeformer_weight", "upscaling_resize_w", "upscaling_resize_h",
        "upscaling_crop", "upscale_first",
    }
)  # fmt: skip
#: Fields of an upscale that have to ask for nothing, and what they ask for.
_EXTRAS_REFUSED: Final = {
    "gfpgan_visibility": "restored faces",
    "codeformer_visibility": "restored faces",
    "extras_upscaler_2_visibility": "a second upscaler",
}


async def txt2img(request: Request) -> Response:
    fields, asking = await bodies.read(request, "a1111")
    return await _draw(request, fields, asking)


async def img2img(request: Request) -> Response:
    fields, asking = await bodies.read(request, "a1111")
    if not fields.get("init_images"):
        raise InvalidRequest("'init_images' must be a list of one picture in base64", field="init_images")
    return await _draw(request, fields, asking)


async def extra_single_image(request: Request) -> Response:
    """An upscale."""
    context = context_of(request)
    fields, asking = await bodies.read(request, "a1111")
    job = await context.submission.submit(_upscale(fields), asking)
    await waiting.until_done(context, request, job)
    told = "".join(f"<p>{html.escape(warning)}</p>" for warning in job.record.warnings)
    return await base64_json.response({"html_info": told, "image": _files(context, [job])[0]})


async def _draw(request: Request, fields: Body, asking: Asking) -> Response:
    context, client = context_of(request), client_of(request).name
    with_options = context.options.applied(client, fields)
    jobs = await context.submission.submit_all(iterations.split(with_options, asking))
    context.drawings.add(client, jobs)
    try:
        await waiting.until_done(context, request, *jobs)
    except JobFailed as error:
        if error.code != "cancelled":  # which A1111 answers with what is there
            raise
    echoed: Body = {name: None if name in _PICTURES else value for name, value in fields.items()}
    answer = {"images": _files(context, jobs), "parameters": echoed, "info": await info(context, jobs)}
    return await base64_json.response(answer)


def _files(context: Context, jobs: Sequence[Job]) -> list[StoredFile]:
    return [context.jobs.file(job.id, image) for job in jobs for _, image in sorted(job.images.items())]


def _upscale(fields: Mapping[str, Any]) -> Body:
    """Our request for A1111's. Raises InvalidRequest."""
    for name, what in _EXTRAS_REFUSED.items():
        if not asks_for_nothing(fields.get(name)):
            raise InvalidRequest(f"{name!r} asks for {what}, which is not done here", field=name)
    if not asks_for_nothing(fields.get("resize_mode")):
        raise InvalidRequest(
            "'resize_mode' 1, to a size, is not done here: send 0, and 'upscaling_resize'", field="resize_mode"
        )
    rest = {name: value for name, value in fields.items() if name not in {*_EXTRAS_IGNORED, *_EXTRAS_REFUSED}}
    made: Body = {"type": "upscale", "upscale_by": rest.pop("upscaling_resize", 2)}
    upscaler = rest.pop("upscaler_1", None)
    rest.pop("upscaler_2", None)
    if not asks_for_nothing(upscaler, ("None",)):
        made["upscaler"] = upscaler
    return {**rest, **made}


ROUTES: Final = [
    Route("/sdapi/v1/txt2img", txt2img, methods=["POST"]),
    Route("/sdapi/v1/img2img", img2img, methods=["POST"]),
    Route(_EXTRAS, extra_single_image, methods=["POST"]),
]
