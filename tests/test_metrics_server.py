"""Who may read the page of metrics, and what a request for it may cost."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stablediffusiond import metrics_server
from stablediffusiond.addresses import bind
from stablediffusiond.metrics_server import MetricsServer

PAGE = b"figures 1.0\n"
Ask = Callable[[bytes], Awaitable[bytes]]


@pytest.fixture
async def port(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    monkeypatch.setattr(socket, "gethostname", lambda: "GPU1.example.com")

    async def page(accept: str) -> tuple[str, bytes]:
        return f"text/plain; for={accept}", PAGE

    server = MetricsServer(page, ["0.0.0.0", "metrics.lan"])
    sockets = await bind("metrics", "127.0.0.1", 0, "")
    await server.listen(sockets)
    yield sockets[0].getsockname()[1]
    await server.close()


@pytest.fixture
async def ask(port: int) -> Ask:
    async def asked(request: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request)
        with contextlib.closing(writer):
            return await reader.read()

    return asked


def get(host: str, path: str = "/metrics", method: str = "GET") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nAccept: x\r\n\r\n".encode()


def status(answer: bytes) -> int:
    return int(answer.split()[1])


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.0.0.1:9411", "[::1]:9411", "192.0.2.7:9411", "localhost", "LOCALHOST:9411", "localhost.", "gpu1", "gpu1.example.com:9411", "metrics.lan"],
)  # fmt: skip
async def test_who_knows_this_machine_by_a_name_of_its_own_may_read(ask: Ask, host: str) -> None:
    answer = await ask(get(host))
    assert answer.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; for=x\r\n")
    assert answer.endswith(b"\r\n\r\n" + PAGE)


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "gpu1.evil.example:9411", "127.0.0.1.evil.example", "gpu1.example.com.evil.example"]
)  # fmt: skip
async def test_under_any_other_name_it_is_not_to_be_had(ask: Ask, host: str) -> None:
    answer = await ask(get(host))
    assert status(answer) == 403
    assert b"[metrics] allowed_hosts" in answer
    assert PAGE not in answer


@pytest.mark.parametrize(
    "host", ["", "a b", "[evil.example]", "127.0.0.1@evil.example", "localhost:x", "localhost, evil.example"]
)
async def test_what_is_no_host_is_wrong(ask: Ask, host: str) -> None:
    answer = await ask(get(host))
    assert status(answer) in {400, 403}
    assert PAGE not in answer


@pytest.mark.parametrize(
    ("request_bytes", "expected"),
    [
        (b"GET /metrics HTTP/1.1\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.0\r\n\r\n", 200),
        (b"GET /metrics?x=1 HTTP/1.1\r\nHost: localhost\r\n\r\n", 200),
        (get("localhost", "/"), 404),
        (get("localhost", "/metrics/x"), 404),
        (get("localhost", "http://localhost/metrics"), 400),
        (get("localhost", method="POST"), 405),
        (get("localhost", method="OPTIONS"), 405),
        (get("localhost", method="CONNECT"), 405),
        (b"hello\r\n\r\n", 400),
        (b"GET /metrics HTTP/2.0\r\nHost: localhost\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 200 + b"\r\n", 431),
    ],
)
async def test_nothing_else_is_there(ask: Ask, request_bytes: bytes, expected: int) -> None:
    answer = await ask(request_bytes)
    assert status(answer) == expected
    assert (PAGE in answer) == (expected == 200)


async def test_head_says_how_long_it_would_be(ask: Ask) -> None:
    answer = await ask(get("localhost", method="HEAD"))
    assert status(answer) == 200
    assert f"Content-Length: {len(PAGE)}\r\n".encode() in answer
    assert answer.endswith(b"\r\n\r\n")


async def test_a_request_that_is_too_long_is_not_read_to_its_end(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with contextlib.closing(writer), contextlib.suppress(ConnectionError):
        for _ in range(1000):
            writer.write(b"x" * 65_536)
            await writer.drain()
        pytest.fail("64 MB were taken")
    del reader


@pytest.mark.parametrize("sent", [b"", b"GET /metrics HTTP/1.1\r\nHost: loc", b"\x16\x03\x01\x02\x00\x01"])
async def test_who_does_not_ask_in_time_is_closed(port: int, monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    monkeypatch.setattr(metrics_server, "_REQUEST_SECONDS", 0.2)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with contextlib.closing(writer), contextlib.suppress(ConnectionError):
        writer.write(sent)
        async with asyncio.timeout(20):
            assert await reader.read() == b""


async def test_a_byte_now_and_then_is_no_request(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_server, "_REQUEST_SECONDS", 0.5)
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    with contextlib.closing(writer), pytest.raises(ConnectionError):
        async with asyncio.timeout(20):
            while True:
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.01)  # what makes it slow


async def test_a_crowd_that_asks_for_nothing_is_bounded(port: int, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_server, "_REQUEST_SECONDS", 1)
    connections = [await asyncio.open_connection("127.0.0.1", port) for _ in range(200)]
    closed = await asyncio.gather(*(reader.read() for reader, _ in connections), return_exceptions=True)
    assert all(isinstance(each, ConnectionError) or each == b"" for each in closed)
    for _, writer in connections:
        writer.close()
    assert status(await ask(get("localhost"))) == 200


async def test_a_reader_that_takes_nothing_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_server, "_ANSWER_SECONDS", 0.5)

    async def page(accept: str) -> tuple[str, bytes]:
        return "text/plain", b"x" * 50_000_000

    server = MetricsServer(page, [])
    sockets = await bind("metrics", "127.0.0.1", 0, "")
    await server.listen(sockets)
    with socket.create_connection(sockets[0].getsockname()) as stopped:
        stopped.sendall(get("localhost"))
        async with asyncio.timeout(20):
            while not server._connections:
                await asyncio.sleep(0.01)
            while server._connections:
                await asyncio.sleep(0.01)
    await server.close()


@given(
    st.binary(max_size=200), st.sampled_from([b"", b"GET /metrics HTTP/1.1\r\n", b"GET /metrics HTTP/1.1\r\nHost: "])
)
def test_whatever_is_asked_is_answered(sent: bytes, before: bytes) -> None:
    async def page(accept: str) -> tuple[str, bytes]:
        return "text/plain", PAGE

    answer = asyncio.run(MetricsServer(page, [])._answer((before + sent + b"\r\n\r\n").decode("latin-1")))
    assert 200 <= status(answer) < 500
