"""uvicorn as a part of one of our daemons: on sockets that we have opened, and without signals and logs of its own."""

import asyncio
import contextlib
import ipaddress
import logging
import socket
from collections.abc import Iterator
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from stablediffusiond.addresses import bind
from stablediffusiond.errors import SettingsError
from stablediffusiond.service import inherited_sockets
from stablediffusiond.settings import GatewaySettings

_REMEDY: Final = "is another stablediffusion_gateway running? [gateway] port names another port"
#: For what is being sent when we stop.
_DRAIN_SECONDS: Final = 5
_KEEP_ALIVE_SECONDS: Final = 30

# It says at INFO what our own log says.
logging.getLogger("uvicorn.error").setLevel(logging.WARNING)


class _Server(uvicorn.Server):
    """Leaves signals to ``service.stop_signal``, and says when it takes connections."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()


class HttpServer:
    """Serves ``app`` from ``open`` to ``close``."""

    def __init__(self, app: ASGIApp, settings: GatewaySettings, *, asks_for_token: bool) -> None:
        self._settings = settings
        self._asks_for_token = asks_for_token
        config = uvicorn.Config(
            app,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            http="h11",  # which bounds what may come before a body
            ws="none",
            limit_concurrency=settings.max_connections,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=_DRAIN_SECONDS,
        )
        self._server = _Server(config)
        self.task: asyncio.Task[None] | None = None

    @property
    def is_serving(self) -> bool:
        return self.task is not None and not self.task.done() and self._server.started

    async def open(self) -> list[str]:
        """Listen on what systemd has opened for us, else on the address of the settings; returns the addresses.

        Raises:
            AddressInUse: another process listens there.
            SettingsError: there is no such host, or an address beyond loopback needs a token.
        """
        sockets = inherited_sockets() or await bind("gateway", self._settings.host, self._settings.port, _REMEDY)
        names = [_name(each.getsockname()) for each in sockets]
        for each in sockets:
            self._require_token_beyond_loopback(each)
            each.listen(socket.SOMAXCONN)
        self.task = asyncio.create_task(self._server.serve(sockets), name="HTTP")
        ready = asyncio.create_task(self._server.ready.wait())
        await asyncio.wait({self.task, ready}, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        return names

    async def close(self) -> None:
        """Take no more requests, and end those that there are, soon."""
        self._server.should_exit = True
        if self.task is not None:
            await asyncio.wait({self.task})

    def _require_token_beyond_loopback(self, listening: socket.socket) -> None:
        address = listening.getsockname()
        beyond_loopback = isinstance(address, tuple) and not ipaddress.ip_address(address[0]).is_loopback
        if beyond_loopback and not self._asks_for_token:
            raise SettingsError(
                f"settings: [gateway] host: {_name(address)} is not on loopback, and everyone who reaches it could "
                "draw; set [gateway] token or token_file, or leave host at 127.0.0.1"
            )


def _name(address: object) -> str:
    if isinstance(address, tuple):
        host, port, *_ = address
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    return str(address)
