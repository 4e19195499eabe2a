"""One connection from accept to close: its handshake, then its session, and why it ends."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Final

from stablediffusiond.broker.link import Link
from stablediffusiond.broker.topology import Topology
from stablediffusiond.errors import OtherProtocol, UnknownOp
from stablediffusiond.frames import Listen
from stablediffusiond.log_limit import LogLimit
from stablediffusiond.responsed import lines
from stablediffusiond.responsed.cancellations import CancelPublisher
from stablediffusiond.responsed.client_stream import ClientStream
from stablediffusiond.responsed.frame_writer import ClientGone, Stalled
from stablediffusiond.responsed.handshake import Handshake, HandshakeTimeout, Unauthorized
from stablediffusiond.responsed.line_reader import LineTooLong
from stablediffusiond.responsed.queue_consumer import QueueConsumer
from stablediffusiond.responsed.session import Session
from stablediffusiond.settings import ResponseSettings

log = logging.getLogger(__name__)
log.addFilter(LogLimit())

#: How long an error on a connection that is to be closed may take to be read.
_LAST_ERROR_SECONDS: Final = 1


class ClientConnection:
    """Made by the server for each connection."""

    def __init__(
        self,
        stream: ClientStream,
        settings: ResponseSettings,
        topology: Topology,
        link: Link,
        cancellations: CancelPublisher,
        *,
        on_written: Callable[[str], None],
    ) -> None:
        """``on_written`` is called with the type of each reply and event that the client has taken."""
        self._stream = stream
        self._settings = settings
        self._topology = topology
        self._link = link
        self._cancellations = cancellations
        self._on_written = on_written

    async def run(self) -> None:
        """Serve the client, and close the connection."""
        try:
            handshake = Handshake(self._stream, self._settings, self._topology, self._cancellations)
            if (listen := await handshake.run()) is not None:
                await self._session(listen, plain=handshake.silent).run()
        except ClientGone as error:
            log.debug("%s: %s", self._stream.peer, error)
        except Stalled as error:
            log.warning("%s is cut off, and its replies go back: %s", self._stream.peer, error)
        except OtherProtocol as error:
            log.warning("%s is closed, and nothing that it sent is executed: %s", self._stream.peer, error)
        except (LineTooLong, HandshakeTimeout, Unauthorized, UnknownOp) as error:
            log.info("%s: %s: %s", self._stream.peer, error.code, error)
            await self._write_last(lines.error(error.code, str(error)).encode())
        finally:
            self._stream.close()

    def _session(self, listen: Listen, *, plain: bool) -> Session:
        consumer = QueueConsumer(
            self._link,
            self._topology,
            listen.queue,
            prefetch=listen.prefetch or self._settings.default_prefetch,
            progress=listen.progress,
            previews=listen.previews,
        )
        return Session(
            self._stream,
            consumer,
            listen,
            self._cancellations,
            plain=plain,
            stall_seconds=self._settings.stall_seconds,
            on_written=self._on_written,
        )

    async def _write_last(self, frame: list[bytes]) -> None:
        """Write to a client that may have gone, or read nothing any more."""
        with contextlib.suppress(ClientGone, Stalled, OtherProtocol, TimeoutError):
            async with asyncio.timeout(_LAST_ERROR_SECONDS):
                await self._stream.write(frame)
