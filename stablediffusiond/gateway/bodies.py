"""The bodies of requests."""

import asyncio
from typing import Final

from starlette.requests import Request

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


def asking(request: Request, interface: Interface, body: bytes) -> Asking:
    return Asking(client_of(request), interface, body, request.headers.get("idempotency-key"))
