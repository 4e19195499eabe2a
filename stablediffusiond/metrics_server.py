"""The page /metrics over HTTP, and nothing else.

A web page can have a browser ask for it, and read it under a name of the page's own that resolves to this machine for a
moment (DNS rebinding). So the name in ``Host`` has to be one of this machine's. What a client sends, how long it takes
for that, and how many there are, is bounded.
"""

import asyncio
import contextlib
import http.client
import io
import logging
import re
import socket
from collections.abc import Awaitable, Callable, Iterable
from http import HTTPStatus
from typing import Final

from stablediffusiond.hosts import KnownHosts, name_in

log = logging.getLogger(__name__)

#: Makes the page in the form that suits the header ``Accept``: its content type, and its bytes.
Page = Callable[[str], Awaitable[tuple[str, bytes]]]

_LONGEST_REQUEST_BYTES: Final = 16_384
_REQUEST_SECONDS: Final = 5
_ANSWER_SECONDS: Final = 10
_MOST_CONNECTIONS: Final = 50
_END: Final = b"\r\n\r\n"
_REQUEST_LINE: Final = re.compile(r"([A-Z]+) (/[!-~]*) HTTP/1\.([01])\r\n")


class _Refused(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: HTTPStatus, why: str = "") -> None:
        super().__init__(why)
        self.status = status


class MetricsServer:
    """Answers ``GET /metrics`` with what ``page`` makes."""

    def __init__(self, page: Page, allowed_hosts: Iterable[str]) -> None:
        """Beside IP addresses and this machine's own name, ``allowed_hosts`` may stand in ``Host``."""
        self._page = page
        self._known_hosts = KnownHosts(allowed_hosts)
        self._servers: list[asyncio.Server] = []
        self._connections: set[asyncio.Task[None]] = set()

    async def listen(self, sockets: Iterable[socket.socket]) -> None:
        """Take requests on bound sockets."""
        for each in sockets:
            server = await asyncio.start_server(self._on_connection, sock=each, limit=_LONGEST_REQUEST_BYTES)
            self._servers.append(server)

    async def close(self) -> None:
        """Take no more requests, and end those that there are."""
        for server in self._servers:
            server.close()
        for connection in self._connections:
            connection.cancel()
        if self._connections:
            await asyncio.wait(set(self._connections))

    def _on_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._connections) >= _MOST_CONNECTIONS:
            log.debug("one reader of the metrics too many")
            writer.transport.abort()
            return
        connection = asyncio.create_task(self._serve(reader, writer), name="metrics")
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request, and close."""
        try:
            async with asyncio.timeout(_REQUEST_SECONDS):
                head = (await reader.readuntil(_END)).decode("latin-1")
            async with asyncio.timeout(_ANSWER_SECONDS):
                writer.write(await self._answer(head))
                await writer.drain()
        except asyncio.LimitOverrunError:
            writer.write(_response(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE))
        except (TimeoutError, OSError, EOFError) as error:
            log.debug("a reader of the metrics: %s", error)
            writer.transport.abort()
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _answer(self, head: str) -> bytes:
        try:
            method, headers = _parse(head)
            self._check_host(headers)
            content_type, body = await self._page(headers.get("Accept", ""))
        except _Refused as refusal:
            return _response(refusal.status, body=f"{refusal}\n".encode())
        return _response(HTTPStatus.OK, content_type, body, with_body=method != "HEAD")

    def _check_host(self, headers: http.client.HTTPMessage) -> None:
        """Let through who knows this machine by its address, or by a name of its own."""
        hosts = headers.get_all("Host", [])
        if not hosts:
            return
        host = name_in(hosts[0]) if len(hosts) == 1 else None
        if host is None:
            raise _Refused(HTTPStatus.BAD_REQUEST)
        if not self._known_hosts.has(host):
            raise _Refused(HTTPStatus.FORBIDDEN, "[metrics] allowed_hosts does not have the name in this address")


def _parse(head: str) -> tuple[str, http.client.HTTPMessage]:
    """The method and the headers of a request for the page."""
    request = _REQUEST_LINE.match(head)
    if request is None:
        raise _Refused(HTTPStatus.BAD_REQUEST)
    try:
        headers = http.client.parse_headers(io.BytesIO(head[request.end() :].encode("latin-1")))
    except http.client.HTTPException:
        raise _Refused(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE) from None
    if request[3] == "1" and "Host" not in headers:
        raise _Refused(HTTPStatus.BAD_REQUEST, "no Host")
    if request[2].partition("?")[0] != "/metrics":
        raise _Refused(HTTPStatus.NOT_FOUND, "/metrics is what there is")
    if request[1] not in {"GET", "HEAD"}:
        raise _Refused(HTTPStatus.METHOD_NOT_ALLOWED)
    return request[1], headers


def _response(
    status: HTTPStatus, content_type: str = "text/plain; charset=utf-8", body: bytes = b"", *, with_body: bool = True
) -> bytes:
    lines = [
        f"HTTP/1.1 {status.value} {status.phrase}",
        f"Content-Type: {content_type}",
        f"Content-Length: {len(body)}",
        "X-Content-Type-Options: nosniff",
        "Connection: close",
    ]
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        lines.append("Allow: GET, HEAD")
    return "\r\n".join(lines).encode() + _END + (body if with_body else b"")
