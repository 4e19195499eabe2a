"""The pages of the manual: what the help says, in what groff takes without a word."""

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from tools.man_pages import client_commands, files

CHECKOUT = Path(__file__).parents[2]
MANUAL = CHECKOUT / "docs/man"
PAGES = sorted(MANUAL.iterdir())


def rendered(page: Path) -> str:
    """The page as a terminal shows it, in one line; groff's warnings are in front."""
    command = ["groff", "-man", "-ww", "-Tascii", "-P-c", "-P-b", "-P-u", "-rHY=0", "-rLL=200n"]
    text = page.read_text("ascii").replace(".so man8/", ".so ")
    done = subprocess.run(command, input=text, cwd=MANUAL, capture_output=True, text=True, check=True)
    return done.stderr + " ".join(done.stdout.split())


def test_they_are_what_the_help_says() -> None:
    written = {page.name: page.read_text("utf-8") for page in PAGES}
    assert written == files(), "write them again: python -m tools.man_pages docs/man"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_groff_has_nothing_to_say_about_one(page: Path) -> None:
    assert rendered(page).startswith("STABLEDIFFUSION")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_the_help_says_is_shown(page: Path) -> None:
    program = [str(CHECKOUT / "bin" / page.stem), "--help"]
    environment = {**os.environ, "INSTALL_VENV": sys.prefix, "COLUMNS": "200"}
    printed = subprocess.run(program, env=environment, capture_output=True, text=True, check=True).stdout
    shown = rendered(page)
    for line in printed.partition("\n\n")[2].splitlines():
        words = " ".join(line.split())
        if not words.endswith(":"):  # a title
            assert words in shown


@pytest.mark.parametrize("command", client_commands(), ids=lambda command: str(command.name))
def test_the_commands_of_the_client_are_explained(command: click.Command) -> None:
    shown = rendered(MANUAL / "stablediffusion_client.1")
    each = [command, *(command.commands.values() if isinstance(command, click.Group) else ())]
    for each_command in each:
        assert " ".join(str(each_command.help).split()) in shown
        assert f"{each_command.name} {each_command.collect_usage_pieces(click.Context(each_command))[0]}" in shown


def test_each_program_that_a_unit_documents_has_one() -> None:
    units = "".join(unit.read_text() for unit in (CHECKOUT / "systemd").glob("*.*"))
    for page in PAGES:
        if page.stem != "stablediffusion_client" and "query" not in page.stem:
            assert f"man:{page.stem}({page.suffix[1:]})" in units
