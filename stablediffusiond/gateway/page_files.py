"""The page at ``/``: files that come with the package, and nothing from elsewhere."""

from importlib import resources
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from stablediffusiond.gateway.errors import NotFound

_TYPES: Final = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
_HEADERS: Final = {
    # Only what is here runs; previews and images that are dropped in have no address of ours.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
        "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-cache",
}
_FILES: Final = {
    file.name: file.read_bytes()
    for file in (resources.files("stablediffusiond.gateway") / "page").iterdir()
    if file.name.rpartition(".")[2] in _TYPES
}


async def get_file(request: Request) -> Response:
    name = request.path_params.get("name", "index.html")
    if name not in _FILES:
        raise NotFound(f"the page has no {name!r}")
    return Response(_FILES[name], media_type=_TYPES[name.rpartition(".")[2]], headers=_HEADERS)


ROUTES: Final = [Route("/", get_file, methods=["GET"]), Route("/page/{name}", get_file, methods=["GET"])]
