"""The commands of docs/reliability.md, *Try it yourself*, print what stands there."""

import re
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.end_to_end.test_readme import CHECKOUT
from tests.system.installation import RESPONSES, SERVICES, Installation

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

PAGE = (CHECKOUT / "docs/reliability.md").read_text("utf-8")
[SECTION] = re.findall(r"^## Try it yourself\n(.*?)^## ", PAGE, re.DOTALL | re.MULTILINE)
COMMANDS = re.compile(r"<!-- (tested|not tested): ([^\n]+) -->\n```sh\n(.*?)```\n", re.DOTALL)
#: Drop-ins that make the page's waits shorter.
SOONER = {
    SERVICES: "RestartSec=0.5",
    (RESPONSES,): "Environment=STABLEDIFFUSIOND_RESPONSES__STALL_SECONDS=3",
}


class Fault(NamedTuple):
    name: str
    tested: bool
    commands: str
    printed: list[str]


def faults() -> Iterator[Fault]:
    for part in SECTION.split("\n### ")[1:]:
        [(tested, _, commands)] = COMMANDS.findall(part)
        printed = "".join(re.findall(r"```text\n(.*?)```", part, re.DOTALL)).splitlines()
        yield Fault(part.partition("\n")[0], tested == "tested", commands, printed)


FAULTS = [fault for fault in faults() if fault.tested]


def test_every_fault_is_tested_or_says_why_not() -> None:
    assert len(COMMANDS.findall(SECTION)) == SECTION.count("```sh")
    assert [fault.name for fault in faults() if not fault.tested] == [
        "The request daemon hangs",
        "A job ends its daemon each time",
        "The power fails",
        "A cluster loses a node, and all of them",
        "The clock is set",
    ]
    assert [fault.name for fault in FAULTS if not fault.printed] == []


@pytest.fixture(scope="module")
def functions(installed: Installation) -> Iterator[str]:
    """The services, with a picture to compare with; returns what the page's commands need in each shell."""
    root = installed.machine.root
    drop_ins: list[str] = []
    for services, line in SOONER.items():
        for service in services:
            drop_ins.append(f"/run/systemd/system/{service}.d/{len(drop_ins)}.conf")
            root(f"mkdir -p $(dirname {drop_ins[-1]}); printf '[Service]\\n{line}\\n' > {drop_ins[-1]}")
    restart = "systemctl daemon-reload; systemctl restart"
    root(f"{restart} {' '.join(SERVICES)}; rabbitmqctl -q -p stablediffusiond purge_queue results")
    [preparation] = [commands for _, kind, commands in COMMANDS.findall(SECTION) if kind == "preparation"]
    picture, _, functions = preparation.partition("\n\n")
    root(picture)
    yield functions
    root(f"rm {' '.join(drop_ins)}; {restart} --no-block {' '.join(SERVICES)}")


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_it_is_as_it_says(installed: Installation, functions: str, fault: Fault) -> None:
    before = {service: installed.process_of(service) for service in SERVICES}
    # An interactive shell goes on after a command that has failed.
    printed = installed.machine.root(f"set +eu +o pipefail\n{functions}\n{fault.commands}", check=False)
    lines = iter(printed.splitlines())
    for expected in fault.printed:
        pattern = re.compile(re.escape(expected).replace("…", ".*"))
        assert any(pattern.fullmatch(line) for line in lines), f"{expected}\nis missing in\n{printed}"
    ended = [service for service in SERVICES if installed.process_of(service) != before[service]]
    assert ended == [f"{killed}.service" for killed in re.findall(r"KILL (stablediffusion\w+)", fault.commands)]
