"""What every request passes first: is it meant for us, does it come from a page that may, whose is it, is it too large?

A browser on this machine can be made to ask us by any page that it shows. What gives such a request away is its
``Host`` (a name of the page's own that resolves to us) or its ``Origin`` (the page's).
"""

from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stablediffusiond.gateway import problems
from stablediffusiond.gateway.context import Context
from stablediffusiond.gateway.errors import BodyTooLarge, Forbidden, HttpError
from stablediffusiond.hosts import KnownHosts, name_in

#: Needs no token: the page (which asks for one), what describes the service, and pictures by signed addresses.
_OPEN: Final = frozenset({"/", "/healthz", "/openapi.json"})
_OPEN_BELOW: Final = ("/page/", "/pictures/")
#: On every answer.
_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
}
_ALLOWED_HEADERS: Final = "Authorization, Content-Type, Idempotency-Key, Last-Event-ID"


class Guard:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, context: Context) -> None:
        settings = context.settings
        self._app = app
        self._context = context  #: whose limits a reload may change
        public = urlsplit(settings.public_url or "").hostname
        self._hosts = KnownHosts([*settings.allowed_hosts, *([public] if public else [])])
        self._origins = {origin.rstrip("/") for origin in settings.allowed_origins}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        try:
            self._check_host(headers)
            self._check_origin(headers, origin)
            if scope["method"] == "OPTIONS" and origin in self._origins:
                await self._preflight(origin)(scope, receive, send)
                return
            self._check_length(headers)
            if scope["path"] not in _OPEN and not scope["path"].startswith(_OPEN_BELOW):
                scope.setdefault("state", {})["client"] = self._context.access.client(headers.get("authorization"))
        except HttpError as error:
            await problems.response(scope["path"], error)(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                for name, value in self._added(origin):
                    MutableHeaders(scope=message)[name] = value
            await send(message)

        await self._app(scope, _bounded(receive, self._context.settings.max_body_bytes), send_with_headers)

    def _check_host(self, headers: Headers) -> None:
        hosts = headers.getlist("host")
        name = name_in(hosts[0]) if len(hosts) == 1 else None
        if name is None or not self._hosts.has(name):
            raise Forbidden("[gateway] allowed_hosts does not have the name in this address")

    def _check_origin(self, headers: Headers, origin: str | None) -> None:
        """A page of our own has our address."""
        if origin is None or origin in self._origins or origin == self._context.settings.public_url:
            return
        if urlsplit(origin).netloc.lower() != headers["host"].lower():
            raise Forbidden(f"a page of {origin[:200]} may not use this; see [gateway] allowed_origins")

    def _check_length(self, headers: Headers) -> None:
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length) > self._context.settings.max_body_bytes:
            raise _too_large(self._context.settings.max_body_bytes)

    def _added(self, origin: str | None) -> Iterator[tuple[str, str]]:
        yield from _HEADERS.items()
        if origin in self._origins and origin is not None:
            yield "Access-Control-Allow-Origin", origin
            yield "Vary", "Origin"
        else:
            yield "Cross-Origin-Resource-Policy", "same-origin"

    def _preflight(self, origin: str | None) -> Response:
        """A browser asks before it lets a page of ``origin`` ask."""
        answer = Response(status_code=204)
        for name, value in self._added(origin):
            answer.headers[name] = value
        answer.headers["Access-Control-Allow-Methods"] = "GET, POST, DELETE"
        answer.headers["Access-Control-Allow-Headers"] = _ALLOWED_HEADERS
        return answer


def _bounded(receive: Receive, most_bytes: int) -> Receive:
    """``receive`` that raises BodyTooLarge beyond ``most_bytes``, whatever length was announced."""
    had = 0

    async def counting() -> Message:
        nonlocal had
        message = await receive()
        had += len(message.get("body", b""))
        if had > most_bytes:
            raise _too_large(most_bytes)
        return message

    return counting


def _too_large(most_bytes: int) -> BodyTooLarge:
    return BodyTooLarge(f"the body has more than {most_bytes} bytes; send a smaller picture")
