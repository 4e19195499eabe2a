"""A peer that says nothing any more and closes nothing: every wait for it has an end."""

import asyncio
import gc
import time
from collections.abc import Iterator

import pytest

from stablediffusiond.broker import awaitable_channel, parameters
from stablediffusiond.broker.connection import Connection
from stablediffusiond.broker.message import Message
from stablediffusiond.errors import BrokerAway, BrokerLost
from stablediffusiond.settings import BrokerSettings
from tests.client.silence import UNRESOLVED, no_answer_for_names
from tests.faults.proxy import Direction, Proxy
from tools.private_broker import PrivateBroker

HEARTBEAT_SECONDS = 6
#: What the machine may be late by.
_GRACE_SECONDS = 2


@pytest.fixture
def proxy(broker: PrivateBroker) -> Iterator[Proxy]:
    with Proxy(broker.port) as made:
        yield made


def by(proxy: Proxy, heartbeat_seconds: int = 15) -> BrokerSettings:
    return BrokerSettings.model_validate(
        {"url": proxy.url, "connect_timeout_seconds": 1, "heartbeat_seconds": heartbeat_seconds}
    )


async def test_who_does_not_greet_is_given_up(proxy: Proxy) -> None:
    proxy.silence("down")
    with pytest.raises(BrokerAway):
        async with asyncio.timeout(1 + _GRACE_SECONDS):
            await Connection.open(by(proxy), "test")


async def test_a_name_without_an_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = BrokerSettings.model_validate({"url": f"amqp://{UNRESOLVED}/", "connect_timeout_seconds": 0.2})
    with no_answer_for_names(monkeypatch), pytest.raises(BrokerAway, match=r"silent\.example.*no answer for 0\.2 s"):
        async with asyncio.timeout(0.2 + _GRACE_SECONDS):
            await Connection.open(settings, "test")


async def test_connecting_may_be_given_up_at_any_moment(proxy: Proxy) -> None:
    """In whatever state of TCP's and AMQP's handshakes; nothing is left, and nobody complains."""
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    proxy.delay(0.02)
    for moment in range(12):
        connecting = asyncio.create_task(Connection.open(by(proxy), "test"))
        await asyncio.wait({connecting}, timeout=moment * 0.02)
        if not connecting.cancel():
            await connecting.result().close()
        await asyncio.wait({connecting})
    gc.collect()
    assert complaints == []


async def test_a_silent_broker_need_not_say_goodbye(proxy: Proxy) -> None:
    connection = await Connection.open(by(proxy), "test")
    proxy.silence("down")
    async with asyncio.timeout(0.1 + _GRACE_SECONDS):
        await connection.close(0.1)
    assert connection.lost.done()
    assert connection.descriptors == set()


async def test_who_opens_no_channel_is_given_up(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(awaitable_channel, "ANSWER_SECONDS", 0.3)
    connection = await Connection.open(by(proxy), "test")
    proxy.silence("down")
    with pytest.raises(BrokerLost, match="no answer"):
        async with asyncio.timeout(0.3 + _GRACE_SECONDS):
            await connection.channel()
    assert connection.lost.done()
    await connection.close(0.1)


async def test_who_does_not_answer_is_given_up(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(awaitable_channel, "ANSWER_SECONDS", 0.3)
    connection = await Connection.open(by(proxy), "test")
    declaring, getting = await connection.channel(), await connection.channel()
    proxy.silence("down")
    for asked in (declaring.declare_queue("silent", {"x-queue-type": "quorum"}), getting.get("silent")):
        with pytest.raises(BrokerLost, match="no answer"):
            async with asyncio.timeout(0.3 + _GRACE_SECONDS):
                await asked
    assert declaring.lost.done()
    assert getting.lost.done()
    proxy.reset()
    await asyncio.wait({connection.lost})


async def test_who_is_silent_is_noticed_within_two_heartbeats(
    broker: PrivateBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever direction is cut, whatever is being waited for: a channel, a confirm, nothing."""
    monkeypatch.setattr(parameters, "_SHORTEST_HEARTBEAT_SECONDS", 1)

    async def notice(*directions: Direction) -> float:
        with Proxy(broker.port) as proxy:
            connection = await Connection.open(by(proxy, HEARTBEAT_SECONDS), "test")
            channel = await connection.channel()
            await channel.confirm_publishes()
            proxy.silence(*directions)
            began = time.monotonic()
            waiting = [
                asyncio.create_task(channel.publish(Message(b"x" * 1_000_000), "", "nobody")),
                asyncio.create_task(connection.channel()),
            ]
            await asyncio.wait({connection.lost})
            seconds = time.monotonic() - began
            for failed in await asyncio.gather(*waiting, return_exceptions=True):
                assert isinstance(failed, BrokerLost)
            return seconds

    cuts: tuple[tuple[Direction, ...], ...] = (("up",), ("down",), ("up", "down"))
    for seconds in await asyncio.gather(*(notice(*cut) for cut in cuts)):
        assert seconds < 2 * HEARTBEAT_SECONDS + _GRACE_SECONDS
