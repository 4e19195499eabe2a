"""A hub of models on loopback: one that has a model, one that refuses it, one that accepts connections and is silent."""

import hashlib
import json
import socket
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import unquote, urlparse

COMMIT = "0123456789abcdef0123456789abcdef01234567"
#: Where they listen, if not elsewhere: on any port that is free.
ANYWHERE: Final = ("127.0.0.1", 0)


def endpoint_of(listening: socket.socket) -> str:
    host, port = listening.getsockname()
    return f"http://{host}:{port}"


class SilentHub:
    """Accepts connections, and never answers, as behind a firewall that drops packets."""

    def __init__(self, address: tuple[str, int] = ANYWHERE) -> None:
        self._socket = socket.create_server(address, backlog=100)
        self.endpoint = endpoint_of(self._socket)

    def was_asked(self) -> bool:
        self._socket.settimeout(0)
        try:
            self._socket.accept()[0].close()
        except BlockingIOError:
            return False
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()


class Hub:
    """Has the model in ``folder`` as ``somebody/tiny``; with ``status`` it answers nothing but that.

    With ``stalls`` it is silent after half of each file of weights.
    """

    def __init__(
        self,
        folder: Path | None = None,
        status: int | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        stalls: bool = False,
        address: tuple[str, int] = ANYWHERE,
    ) -> None:
        files = [] if folder is None else [each for each in folder.rglob("*") if each.is_file()]
        self.files = {} if folder is None else {str(each.relative_to(folder)): each.read_bytes() for each in files}
        self.status, self.headers = status, headers or {}
        self.stalls, self.closing = stalls, threading.Event()
        #: The paths that were asked for.
        self.asked: list[str] = []
        hub = self

        class Handler(_Handler):
            pass

        Handler.hub = hub
        self._server = ThreadingHTTPServer(address, Handler)
        self._server.daemon_threads = True
        self.endpoint = endpoint_of(self._server.socket)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlparse(self.path).path)
        self.hub.asked.append(path)
        if self.hub.status is not None:
            self._answer(self.hub.status, b'{"error":"no"}', self.hub.headers)
        elif path.startswith("/api/models/somebody/tiny/tree/"):
            tree = [
                {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                for name, data in self.hub.files.items()
            ]
            self._answer(200, json.dumps(tree).encode())
        elif path.startswith("/api/models/somebody/tiny"):
            said = {"id": "somebody/tiny", "sha": COMMIT, "siblings": [{"rfilename": name} for name in self.hub.files]}
            self._answer(200, json.dumps(said).encode())
        elif (data := self.hub.files.get(path.partition("/resolve/")[2].partition("/")[2])) is not None:
            tag = hashlib.sha1(data).hexdigest()
            self._answer(200, data, {"ETag": f'"{tag}"', "X-Repo-Commit": COMMIT})
        else:
            self._answer(404, b"{}", {"X-Error-Code": "EntryNotFound"})

    def _answer(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            **(headers or {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.hub.stalls and self.path.endswith(".safetensors"):
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            self.hub.closing.wait()
            self.close_connection = True
            return
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass
