"""A broker to which the daemon's own unit lets nothing through: an operator is told, each time that it is another address."""

import asyncio
import logging
import socket

import pytest

from stablediffusiond import sandbox
from stablediffusiond.broker.connection import Connection
from stablediffusiond.broker.link import Link
from stablediffusiond.errors import BrokerAway, BrokerForbidden
from stablediffusiond.settings import BrokerSettings


def settings(url: str) -> BrokerSettings:
    return BrokerSettings.model_validate({"url": url, "reconnect_min_seconds": 0.01, "reconnect_max_seconds": 0.02})


async def test_each_address_that_is_closed_is_said_once_and_as_an_error(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, free_port: int
) -> None:
    asked: list[str] = []
    both = asyncio.Event()

    async def closed_to(host: str) -> str:
        asked.append(host)
        if len(asked) > 6:
            both.set()
        return "allow the name server" if len(asked) < 4 else "allow the broker"

    monkeypatch.setattr(sandbox, "closed_to", closed_to)
    async with asyncio.timeout(30), Link(settings(f"amqp://me:secret@127.0.0.1:{free_port}/"), "reads"):
        await both.wait()
    logged = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert [line.rpartition("; allow")[2] for line in logged] == [
        " the name server; trying on",
        " the broker; trying on",
    ]
    assert set(asked) == {"127.0.0.1"}


async def test_a_node_that_is_closed_is_named_before_one_that_is_away(
    monkeypatch: pytest.MonkeyPatch, free_port: int
) -> None:
    async def closed_to(host: str) -> str | None:
        return "allow it" if host == "::1" else None

    monkeypatch.setattr(sandbox, "closed_to", closed_to)
    nodes = f"amqp://127.0.0.1:{free_port}/,amqp://[::1]:{free_port}/"
    with pytest.raises(
        BrokerForbidden, match=r"127\.0\.0\.1:.*is RabbitMQ running there\?; amqp://\[::1\]:.*; allow it"
    ):
        await Connection.open(settings(nodes), "reads")


async def test_a_name_that_nobody_knows_is_said_to_be_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **more: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(
        BrokerAway, match=r"amqp://rabbit\.invalid/: no address is found for this host \(Name or .*\[broker\] url"
    ):
        await Connection.open(settings("amqp://rabbit.invalid/"), "reads")
