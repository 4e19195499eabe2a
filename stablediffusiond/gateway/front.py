"""What stands before the application: who asks while the store cannot be opened yet waits a moment, and is told."""

import asyncio
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from stablediffusiond.gateway import problems
from stablediffusiond.gateway.errors import StoreUnavailable

_PATIENCE_SECONDS: Final = 5.0


class Front:
    def __init__(self) -> None:
        self._app: asyncio.Future[ASGIApp] = asyncio.get_running_loop().create_future()

    def open(self, app: ASGIApp) -> None:
        self._app.set_result(app)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                app = await asyncio.shield(self._app)
        except TimeoutError:
            await problems.response(scope["path"], StoreUnavailable("it is not open yet"))(scope, receive, send)
            return
        await app(scope, receive, send)
