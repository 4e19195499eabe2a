"""Whatever is away, a call ends when its caller's time has passed, and without one when the library's own has.

The first is ``TimedOut`` and exit code 4, the second says what is away, with exit code 3.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from stablediffusiond.broker import awaitable_channel, channel
from stablediffusiond.client import AsyncClient, Client
from stablediffusiond.errors import BrokerError, ResponsesAway, StableDiffusiondError, TimedOut
from tests.client.away import AWAY, OWN_SECONDS, Away, ServiceWithOutage
from tests.client.fake_daemons import FakeDaemons
from tests.client.fake_responses import FakeResponses

GIVEN_SECONDS = 0.4
#: What a machine may be late by that does other things, too; the library waits longer.
GRACE_SECONDS = 8.0
CLOSE_SECONDS = 4.0

Call = Callable[..., Any]

CALLS: Mapping[str, Call] = {
    "connect": lambda client, **limit: client.connect(**limit),
    "submit": lambda client, **limit: client.submit(prompt="cat", **limit),
    "enqueue": lambda client, **limit: client.enqueue(prompt="cat", **limit),
    "draw": lambda client, **limit: client.draw(prompt="cat", **limit),
    "cancel": lambda client, **limit: client.cancel("it", **limit),
    "status": lambda client, **limit: client.status(**limit),
}


def complaint(
    client: Client, name: str, expected: Callable[[StableDiffusiondError], bool], seconds: float, **limit: float
) -> str | None:
    """What is wrong with how the call ends, and the client after it."""
    began = time.monotonic()
    try:
        CALLS[name](client, **limit)
    except StableDiffusiondError as error:
        ended, took = error, time.monotonic() - began
    else:
        return f"{name} did not fail"
    began = time.monotonic()
    client.close()
    closing = time.monotonic() - began
    if not expected(ended):
        return f"{name} raised {ended!r}"
    if took > seconds + GRACE_SECONDS or closing > CLOSE_SECONDS:
        return f"{name} took {took:.1f} s, closing {closing:.1f} s"
    return None


def complaints(
    service: ServiceWithOutage, away: Away, check: Callable[[Client, str], str | None], **options: float
) -> list[str]:
    """Of all calls that need what is away, made at a time."""
    clients = {name: service.client(away, **options) for name in away.needed_by}
    service.fall_silent()
    with ThreadPoolExecutor(len(clients)) as pool:
        found = pool.map(lambda name: check(clients[name], name), clients)
        return [each for each in found if each is not None]


@pytest.mark.parametrize("away", AWAY, ids=": ".join)
def test_the_callers_time_is_kept(service: ServiceWithOutage, away: Away) -> None:
    service.patiently()
    service.take_away(away)

    def check(client: Client, name: str) -> str | None:
        return complaint(client, name, is_timed_out, GIVEN_SECONDS, timeout_seconds=GIVEN_SECONDS)

    assert complaints(service, away, check) == []


@pytest.mark.parametrize("away", AWAY, ids=": ".join)
def test_and_else_the_librarys_own(service: ServiceWithOutage, away: Away, monkeypatch: pytest.MonkeyPatch) -> None:
    service.take_away(away)
    # to be greeted, to be answered, to connect once more
    longest_seconds = 4 * OWN_SECONDS

    def check(client: Client, name: str) -> str | None:
        return complaint(client, name, says_what_is_away, longest_seconds)

    monkeypatch.setattr(channel, "_CONFIRM_SECONDS", OWN_SECONDS)
    monkeypatch.setattr(awaitable_channel, "ANSWER_SECONDS", OWN_SECONDS)
    assert complaints(service, away, check, reconnect_seconds=OWN_SECONDS) == []


def is_timed_out(error: StableDiffusiondError) -> bool:
    return isinstance(error, TimedOut) and error.exit_code == 4 and "in the time given" in str(error)


def says_what_is_away(error: StableDiffusiondError) -> bool:
    return isinstance(error, BrokerError | ResponsesAway) and error.exit_code == 3


@pytest.mark.parametrize("away", AWAY, ids=": ".join)
async def test_a_time_limit_of_asyncio_is_kept(service: ServiceWithOutage, away: Away) -> None:
    service.patiently()
    service.take_away(away)
    async with AsyncClient(service.settings) as client:
        if away.how == "silent after a while":
            await client.connect()
            await client.enqueue(prompt="cat")
            service.fall_silent()
        calls = [CALLS[name](client) for name in away.needed_by]
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(GIVEN_SECONDS):
                await asyncio.gather(*calls)
        await client.close()
        assert time.monotonic() - began < GIVEN_SECONDS + GRACE_SECONDS


def test_a_job_of_which_nothing_is_heard(
    service: ServiceWithOutage, daemons: FakeDaemons, responses: FakeResponses
) -> None:
    """Because nobody draws it, because the response daemon has gone, or is there and has fallen silent."""
    with service.client(reconnect_seconds=OWN_SECONDS) as client:
        with client.submit(prompt="cat") as job, pytest.raises(TimedOut):
            list(job.events(timeout_seconds=GIVEN_SECONDS))
        job = client.submit(prompt="cat")
        responses.leave()
        with pytest.raises(TimedOut):
            list(job.events(timeout_seconds=GIVEN_SECONDS / 4))
        with pytest.raises(ResponsesAway):
            list(job.events())
