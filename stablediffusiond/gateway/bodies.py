"""The bodies of requests."""

import asyncio
import json
from typing import Final

from starlette.requests import Request

from stablediffusiond.errors import InvalidRequest, UnreadableMessage
from stablediffusiond.gateway.context import client_of
from stablediffusiond.gateway.store.records import Interface
from stablediffusiond.gateway.submission import Asking
from stablediffusiond.messages.body import parse
from stablediffusiond.messages.values import Body

#: What is longer is read in a thread.
_SHORT_BYTES: Final = 65_536


async def read(request: Request, interface: Interface) -> tuple[Body, Asking]:
    """The JSON object in the body, and who sends it. Raises UnreadableMessage and BodyTooLarge."""
    body = await request.body()
    fields = parse(body) if len(body) <= _SHORT_BYTES else await asyncio.to_thread(parse, body)
    return fields, asking(request, interface, body)


async def read_list(request: Request, interface: Interface, most: int) -> list[tuple[Body, Asking]] | None:
    """The objects in a body that is a list, each as if it had come by itself; None if it is none.

    Raises:
        UnreadableMessage: there is something else in it.
        InvalidRequest: it is empty, or has more than ``most``.
    """
    body = await request.body()
    if body.lstrip()[:1] != b"[":
        return None
    # As one object, so that one reader has the limits for both.
    wrapped = b'{"jobs": ' + body + b"}"
    found = (await asyncio.to_thread(parse, wrapped))["jobs"]
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise UnreadableMessage("a list of jobs has objects of JSON in it, and nothing else")
    if not 0 < len(found) <= most:
        raise InvalidRequest(f"a list has 1 to {most} jobs, and this one has {len(found)}")
    key = request.headers.get("idempotency-key")
    return [
        (each, Asking(client_of(request), interface, json.dumps(each).encode(), f"{key}/{place}" if key else None))
        for place, each in enumerate(found)
    ]


def asking(request: Request, interface: Interface, body: bytes) -> Asking:
    return Asking(client_of(request), interface, body, request.headers.get("idempotency-key"))
