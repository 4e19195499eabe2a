"""The command, of whose service something is away: ``--timeout`` is kept, and Ctrl-C ends it at once."""

import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.client.away import AWAY, Away, ServiceWithOutage
from tests.client.fake_daemons import FakeDaemons
from tests.client.fake_responses import FakeResponses
from tests.client.running import Running
from tests.client.silence import UNRESOLVED

GIVEN_SECONDS = 2
#: For Python to start and to end, of many at a time on a machine that does other things, too; the library waits longer.
START_SECONDS = 40
END_SECONDS = 10

#: As ``silence`` does it, in a process of its own; says so in a file.
_NO_ANSWER_FOR_NAMES = f"""
import pathlib, socket, time
ask = socket.getaddrinfo
def getaddrinfo(host, *arguments, **more):
    if host != "{UNRESOLVED}":
        return ask(host, *arguments, **more)
    pathlib.Path("asked").touch()
    time.sleep(3600)
socket.getaddrinfo = getaddrinfo
"""

#: What waits for the broker, and what also for the response daemon.
BROKER_ALONE = (("cat", "--no-wait"), ("status",), ("cancel", "it"), ("dead", "list"))
BOTH = (("cat",),)


class Waiting(Running):
    """One that waits for what is away."""

    def __init__(self, service: ServiceWithOutage, at: Path, away: Away, *arguments: str) -> None:
        self.at = at / f"{away.who}, {away.how}, {arguments}"
        self.at.mkdir()
        self._port = service.port_of(away)
        super().__init__(service.settings, self.at, *arguments, before=_NO_ANSWER_FOR_NAMES)

    def is_waiting(self) -> bool:
        """Whether it has asked for the name, or knocked at the port."""
        if (self.at / "asked").exists():
            return True
        connections = psutil.Process(self.process.pid).net_connections("tcp")
        return any(each.raddr and each.raddr.port == self._port for each in connections)


def wait_until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def commands(service: ServiceWithOutage, tmp_path: Path, away: Away, *, timeout: bool) -> list[Waiting]:
    """All that need what is away, at a time."""
    limit = ("--timeout", str(GIVEN_SECONDS)) if timeout else ()
    alone = [each for each in BROKER_ALONE if not timeout or each[0] in {"status", "cancel"}]
    needed = (*BOTH, *alone) if away.who == "broker" else BOTH
    return [Waiting(service, tmp_path, away, *arguments, *limit) for arguments in needed]


@pytest.mark.parametrize("away", [each for each in AWAY if each.how != "silent after a while"], ids=": ".join)
def test_ctrl_c_ends_it_at_once_and_time_given_is_kept(service: ServiceWithOutage, tmp_path: Path, away: Away) -> None:
    service.patiently()
    service.take_away(away)
    began = time.monotonic()
    limited = commands(service, tmp_path, away, timeout=True)
    unlimited = commands(service, tmp_path, away, timeout=False)
    found = [*map(interrupted, unlimited), *map(timed_out, limited)]
    assert [each for each in found if each] == []
    assert time.monotonic() - began < START_SECONDS + GIVEN_SECONDS


def interrupted(running: Waiting) -> str | None:
    """What is wrong with how it ends by Ctrl-C."""
    wait_until(running.is_waiting)
    running.process.send_signal(signal.SIGINT)
    began = time.monotonic()
    code, _, err = running.end()
    took = time.monotonic() - began
    well = code == 130 and "Traceback" not in err and took < END_SECONDS
    return None if well else f"{running.at.name}: {code} after {took:.1f} s: {err}"


def timed_out(running: Waiting) -> str | None:
    """What is wrong with how it ends by itself."""
    code, out, err = running.end()
    well = (code, out, err.count("in the time given")) == (4, b"", 1)
    return None if well else f"{running.at.name}: {code}: {err}"


def test_a_broker_that_falls_silent_while_a_job_is_waited_for(
    service: ServiceWithOutage, daemons: FakeDaemons, tmp_path: Path
) -> None:
    service.patiently()
    running = Running(service.settings, tmp_path, "cat", "--timeout", str(GIVEN_SECONDS))
    daemons.take()
    service.fall_silent()
    began = time.monotonic()
    code, _, err = running.end()
    assert (code, err.count("in the time given")) == (4, 2), err
    assert "whether it stops is not known" in err
    assert time.monotonic() - began < GIVEN_SECONDS + END_SECONDS


def test_without_a_time_given_what_is_away_is_told(
    service: ServiceWithOutage, responses: FakeResponses, tmp_path: Path
) -> None:
    for number, away in enumerate(each for each in AWAY if each.how == "silent"):
        service.take_away(away)
        (tmp_path / str(number)).mkdir()
        code, _, err = Running(service.settings, tmp_path / str(number), "cat").end()
        assert code == 3, err
        assert "running there?" in err or "timed out" in err
