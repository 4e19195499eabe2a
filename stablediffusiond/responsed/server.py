"""Accepting connections: at which addresses, how many at once, and closing them at the end."""

import asyncio
import ipaddress
import logging
import socket
from collections import Counter
from collections.abc import Callable
from typing import Final, get_args

from stablediffusiond.addresses import bind
from stablediffusiond.broker.link import Link
from stablediffusiond.broker.publisher import Publisher
from stablediffusiond.broker.topology import Topology
from stablediffusiond.errors import SettingsError
from stablediffusiond.log_limit import LogLimit
from stablediffusiond.messages.replies import ReplyType
from stablediffusiond.responsed import lines
from stablediffusiond.responsed.cancellations import CancelPublisher
from stablediffusiond.responsed.client_connection import ClientConnection
from stablediffusiond.responsed.client_stream import ClientStream
from stablediffusiond.responsed.local_peers import LocalPeers
from stablediffusiond.responsed.unix_socket import BACKLOG, UnixSocket
from stablediffusiond.service import inherited_sockets
from stablediffusiond.settings import ResponseSettings

log = logging.getLogger(__name__)
log.addFilter(LogLimit())

_ACCEPTED_AT_ONCE: Final = 16
_REMEDY: Final = "is another stablediffusion_responsed running? [responses] port names another port"
#: A message on a queue may have any type.
_KINDS: Final = frozenset(get_args(ReplyType))


class Server:
    """Listens on ``settings.host`` and ``settings.port``, and serves each connection in a task of its own."""

    def __init__(self, settings: ResponseSettings, topology: Topology, link: Link, publisher: Publisher) -> None:
        self._settings = settings
        self._topology = topology
        self._link = link
        self._cancellations = CancelPublisher(topology, publisher)
        self._local_peers = LocalPeers()
        self._connections: set[asyncio.Task[None]] = set()
        self._servers: list[asyncio.Server] = []
        self._unix_socket: UnixSocket | None = None
        self.turned_away = 0
        #: Replies and events that clients have taken, by their type.
        self.written: Counter[str] = Counter()
        #: Called whenever a client comes or goes.
        self.on_change: Callable[[], None] = lambda: None
        #: Fails with the first error of a connection's task that no client can cause: a bug.
        self.broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def clients(self) -> int:
        return len(self._connections)

    @property
    def listening(self) -> bool:
        """Whether connections are accepted at every address."""
        return all(server.is_serving() for server in self._servers)

    async def open(self) -> list[str]:
        """Listen on what systemd has opened for us, else on the addresses of the settings; returns the addresses.

        Raises:
            AddressInUse: another process listens there.
            SettingsError: there is no such host or folder, or an address beyond loopback needs a token.
        """
        inherited = inherited_sockets()
        sockets = inherited or await bind("responses", self._settings.host, self._settings.port, _REMEDY)
        for each in sockets:
            self._require_token_beyond_loopback(each.getsockname())
        if self._settings.socket is not None and not inherited:
            self._unix_socket = UnixSocket(self._settings.socket)
            sockets.append(self._unix_socket.open())
        return [await self._listen(each) for each in sockets]

    def apply_limits(self, settings: ResponseSettings) -> None:
        """Use the limits of other settings from the next connection on; the addresses stay."""
        self._settings = settings

    async def close(self) -> None:
        """Accept no more connections and close those that are open; replies that were not written out are requeued."""
        if self._unix_socket is not None:
            self._unix_socket.remove()
        for server in self._servers:
            server.close()
        for connection in self._connections:
            connection.cancel()
        if self._connections:
            await asyncio.wait(set(self._connections))
        self._local_peers.close()

    def _require_token_beyond_loopback(self, address: object) -> None:
        """Who connects may read results: from other machines only with a token."""
        beyond_loopback = isinstance(address, tuple) and not ipaddress.ip_address(address[0]).is_loopback
        if beyond_loopback and self._settings.token is None:
            raise SettingsError(
                f"settings: [responses] host: {_name(address)} is not on loopback, and everyone who reaches it could "
                "read all results; set [responses] token or token_file, or leave host at localhost"
            )

    async def _listen(self, listening: socket.socket) -> str:
        """Accept on a bound socket; in one that systemd holds, connections wait while we are restarted."""
        # asyncio accepts as many at once as may wait, and serves no other client meanwhile.
        self._servers.append(await asyncio.start_server(self._on_connection, sock=listening, backlog=_ACCEPTED_AT_ONCE))
        listening.listen(BACKLOG)
        return _name(listening.getsockname())

    async def _on_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        stream = ClientStream(
            reader, writer, self._local_peers, self._settings.max_line_bytes, self._settings.stall_seconds
        )
        if self.clients >= self._settings.max_connections:
            self.turned_away += 1
            log.warning("%s is turned away: %d clients are connected", stream.peer, self.clients)
            line = lines.error("too_many_connections", f"{self.clients} clients are connected; try again later")
            writer.writelines(line.encode())
            writer.close()
            return
        connection = ClientConnection(
            stream,
            self._settings,
            self._topology,
            self._link,
            self._cancellations,
            on_written=self._count_written,
        )
        task = asyncio.create_task(connection.run(), name=f"client {stream.peer}")
        self._connections.add(task)
        task.add_done_callback(self._on_end)
        self.on_change()

    def _count_written(self, kind: str) -> None:
        self.written[kind if kind in _KINDS else "other"] += 1

    def _on_end(self, connection: asyncio.Task[None]) -> None:
        self._connections.discard(connection)
        self.on_change()
        if not connection.cancelled() and (error := connection.exception()) and not self.broken.done():
            self.broken.set_exception(error)


def _name(address: object) -> str:
    if isinstance(address, tuple):
        host, port, *_ = address
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return str(address)
