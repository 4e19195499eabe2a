"""Reading one queue from the response daemon's socket, through every broken connection."""

import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Final

from stablediffusiond.errors import FramingError
from stablediffusiond.frames import Ack, Frame, Listen, encode_op, read_frame

_PAUSE_SECONDS: Final = 0.1


class SocketReader:
    """Reads one queue off the socket for as long as it takes, and acks each reply by hand."""

    def __init__(self, port: int, queue: str, on_frame: Callable[[Frame], None]) -> None:
        self.queue = queue
        self._port = port
        self._on_frame = on_frame
        self._stop = threading.Event()
        self._socket: socket.socket | None = None
        self._thread = threading.Thread(target=self._run, name="reader", daemon=True)
        self.listening = threading.Event()
        self.connections = 0

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self.reset()
        if self._thread.ident is not None:
            self._thread.join(20)

    def reset(self) -> None:
        """Break the connection in the middle of whatever comes."""
        if (current := self._socket) is not None:
            with contextlib.suppress(OSError):
                current.shutdown(socket.SHUT_RDWR)

    def _run(self) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(OSError, FramingError):
                self._read()
            self._stop.wait(_PAUSE_SECONDS)

    def _read(self) -> None:
        with socket.create_connection(("127.0.0.1", self._port), timeout=60) as connection:
            self._socket = connection
            self.connections += 1
            connection.sendall(encode_op(Listen(queue=self.queue, encoding="binary", ack="manual", prefetch=8)))
            with connection.makefile("rb") as stream:
                while (frame := read_frame(stream)) is not None:
                    delivery = frame.head.get("delivery")
                    if frame.head["type"] == "listening":
                        self.listening.set()
                        connection.settimeout(None)
                    elif isinstance(delivery, int):
                        self._on_frame(frame)
                        connection.sendall(encode_op(Ack(delivery=delivery)))
