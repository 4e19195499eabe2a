"""A TCP proxy before the broker that fails on demand."""

import contextlib
import socket
import threading
from types import TracebackType
from typing import Self


class Proxy:
    """Forwards to ``host``:``port`` until told otherwise."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._swallowing: set[socket.socket] = set()
        self._threads = [threading.Thread(target=self._accept)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()
        for thread in self._threads:
            thread.join()

    @property
    def accepted(self) -> int:
        """Connections that were ever made."""
        return len(self._pairs)

    def swallow_answers(self) -> None:
        """From now on the connections that there are bring nothing back from the broker."""
        self._swallowing.update(upstream for _, upstream in self._pairs)

    def cut(self) -> None:
        """End every connection."""
        for pair in self._pairs:
            for end in pair:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def leave(self) -> None:
        """Take no new connections, and end those that there are."""
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self.cut()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                upstream = socket.create_connection(self._target)
                self._pairs.append((client, upstream))
                for source, sink in ((client, upstream), (upstream, client)):
                    thread = threading.Thread(target=self._forward, args=(source, sink))
                    thread.start()
                    self._threads.append(thread)

    def _forward(self, source: socket.socket, sink: socket.socket) -> None:
        with source, contextlib.suppress(OSError):
            while data := source.recv(65536):
                if source not in self._swallowing:
                    sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)
