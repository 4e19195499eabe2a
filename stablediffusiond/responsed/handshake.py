"""The handshake of one connection: from its first byte to what it listens to.

A client that sends nothing for ``hello_seconds`` is a plain listener, as in 2022: it gets the queue of results. Any
other authenticates where a token is asked for, and sends ``listen``. A line that is no operation ends the handshake: it
is another protocol's, and a later line of that could look like an operation.
"""

import asyncio
import contextlib
import hmac
from typing import ClassVar, Final

from pydantic import SecretStr

from stablediffusiond import frames
from stablediffusiond.broker.topology import Topology
from stablediffusiond.errors import OpError, StableDiffusiondError, UnknownOp
from stablediffusiond.frames import Ack, Auth, CancelOp, Listen, Op, Ping
from stablediffusiond.responsed import lines
from stablediffusiond.responsed.cancellations import CancelPublisher
from stablediffusiond.responsed.client_stream import ClientStream
from stablediffusiond.settings import ResponseSettings

_AUTH_FIRST: Final = 'a token is asked for here; say {"op":"auth","token":"…"} first'


class HandshakeTimeout(StableDiffusiondError):
    """Raised when a client has sent something, and no ``listen`` in time."""

    code: ClassVar[str] = "handshake_timeout"


class Unauthorized(StableDiffusiondError):
    """Raised when a client on TCP sends no token, or a wrong one, where one is asked for."""

    code: ClassVar[str] = "unauthorized"


class Handshake:
    """Reads operations until one of them is ``listen``."""

    def __init__(
        self, stream: ClientStream, settings: ResponseSettings, topology: Topology, cancellations: CancelPublisher
    ) -> None:
        self._stream = stream
        self._settings = settings
        self._topology = topology
        self._cancellations = cancellations
        #: Of a Unix socket the file's permissions decide who may open it.
        self._authorized = stream.is_unix or settings.token is None
        #: Whether the client is a plain listener, which sent nothing.
        self.silent = False

    async def run(self) -> Listen | None:
        """What the client wants to listen to; None if it leaves without listening.

        Raises:
            HandshakeTimeout, Unauthorized, UnknownOp: the connection has to end, and the client should be told why.
        """
        line = await self._first_line()
        self._stream.check()
        if not self.silent:
            return await self._read_until_listen(line)
        if not self._authorized:
            raise Unauthorized(_AUTH_FIRST)
        return Listen(queue=self._topology.results)

    async def _first_line(self) -> bytes | None:
        """The first line, or None if it is not there within ``hello_seconds``."""
        line = None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.hello_seconds):
                line = await self._stream.line()
        self.silent = line is None and not self._stream.mid_line
        return line

    async def _read_until_listen(self, line: bytes | None) -> Listen | None:
        try:
            async with asyncio.timeout(self._settings.handshake_seconds):
                while (line := line if line is not None else await self._stream.line()) is not None:
                    if (listen := await self._answer(line)) is not None:
                        return listen
                    line = None
                return None
        except TimeoutError:
            raise HandshakeTimeout(f"no listen within {self._settings.handshake_seconds:g} s") from None

    async def _answer(self, line: bytes) -> Listen | None:
        """Execute the operation in one line; returns it if it is a ``listen`` that can be served."""
        try:
            return await self._execute(frames.parse_op(line))
        except UnknownOp:
            raise
        except OpError as error:
            await self._stream.write(lines.error(error.code, str(error)).encode())
            return None

    async def _execute(self, op: Op) -> Listen | None:
        if not self._authorized and not isinstance(op, Auth):
            raise Unauthorized(_AUTH_FIRST)
        match op:
            case Auth(token=token):
                self._authenticate(token)
            case Listen():
                self._check_listen(op)
                return op
            case Ack(delivery=number):
                raise OpError("unknown_delivery", f"there was no delivery {number} on this connection")
            case CancelOp(id=job_id):
                await self._cancellations.publish(job_id)
            case Ping():
                await self._stream.write(lines.pong().encode())
        return None

    def _authenticate(self, token: SecretStr) -> None:
        """Compare the token; where none is asked for, any will do."""
        expected = self._settings.token
        if not self._authorized and expected is not None:
            if not hmac.compare_digest(_bytes(token), _bytes(expected)):
                raise Unauthorized("the token is wrong; it is the daemon's [responses] token or token_file")
            self._authorized = True

    def _check_listen(self, listen: Listen) -> None:
        if not self._topology.is_results_queue(listen.queue):
            own = self._topology.results
            raise OpError("bad_queue", f"the queue must be {own!r} or '{own}.' and letters, digits, '.', '_', '-'")
        if listen.prefetch is not None and listen.prefetch > self._settings.max_prefetch:
            raise OpError("bad_op", f"prefetch must be at most {self._settings.max_prefetch}")


def _bytes(secret: SecretStr) -> bytes:
    return secret.get_secret_value().encode(errors="surrogatepass")
