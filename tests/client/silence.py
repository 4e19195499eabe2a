"""Peers that do not answer: a port that drops what knocks, one that accepts and says nothing, a name without an answer."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

#: What a DNS server is asked for that does not answer.
UNRESOLVED = "silent.example"


@contextlib.contextmanager
def dropping_port() -> Iterator[int]:
    """Its backlog is full, so that the kernel drops every SYN."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        port: int = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            yield port


@contextlib.contextmanager
def silent_port() -> Iterator[int]:
    """Connections are accepted, by the kernel, and nobody says anything on them."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as server:
        yield server.getsockname()[1]


@contextlib.contextmanager
def no_answer_for_names(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """``UNRESOLVED`` is asked for as long as this lasts."""
    ended, ask = threading.Event(), socket.getaddrinfo

    def getaddrinfo(host: Any, *arguments: Any, **more: Any) -> Any:
        if host != UNRESOLVED:
            return ask(host, *arguments, **more)
        ended.wait()
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    with monkeypatch.context() as patched:
        patched.setattr(socket, "getaddrinfo", getaddrinfo)
        try:
            yield
        finally:
            ended.set()
