"""Writes the manual pages of the programs, in docs/man, out of their help.

    python -m tools.man_pages docs/man

A paragraph that click is told not to wrap stays as it is; one that begins with a title such as ``Examples:`` becomes a
section of that name.
"""

import importlib
import inspect
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from stablediffusiond import __version__
from stablediffusiond.cli import command as client
from stablediffusiond.gateway import daemon as gateway
from stablediffusiond.requestd import daemon as requestd
from stablediffusiond.responsed import daemon as responsed
from stablediffusiond.service import command_of

_UNWRAPPED: Final = "\b"
_TITLE: Final = re.compile(r"([A-Z][a-z]+( [a-z]+)?):$")
#: What groff reads as something else (groff_char(7)).
_ESCAPES: Final = str.maketrans({"\\": r"\e", "-": r"\-", "'": r"\(aq", "`": r"\(ga", "^": r"\(ha", "~": r"\(ti"})


@dataclass(frozen=True)
class Page:
    """The page of ``command`` in ``section`` of the manual; ``what`` is for the list of ``man -k``."""

    command: click.Command
    section: int
    what: str
    also_called: Sequence[str] = ()
    commands: Sequence[click.Command] = ()  #: its subcommands

    @property
    def name(self) -> str:
        return str(self.command.name)


def pages() -> list[Page]:
    older = ["stablediffusion_response_query"]
    return [
        Page(command_of("stablediffusiond", requestd.serve), 8, "draw what a queue asks for"),
        Page(command_of("stablediffusion_responsed", responsed.serve), 8, "bring pictures to sockets", older),
        Page(command_of("stablediffusion_gateway", gateway.serve), 8, "take jobs over HTTP"),
        Page(client.command, 1, "draw pictures with a Stable Diffusion service", commands=client_commands()),
    ]


def client_commands() -> list[click.Command]:
    return [importlib.import_module(module).command for module in client.COMMANDS.values()]


def files() -> dict[str, str]:
    """Each file of the manual, by name."""
    made = pages()
    texts = {f"{page.name}.{page.section}": "\n".join(_lines(page, made)) + "\n" for page in made}
    aliases = {f"{name}.{page.section}": page for page in made for name in page.also_called}
    return texts | {name: f".so man{page.section}/{page.name}.{page.section}\n" for name, page in aliases.items()}


def _lines(page: Page, all_pages: list[Page]) -> Iterator[str]:
    context = click.Context(page.command, info_name=page.name, **page.command.context_settings)
    yield f'.TH {page.name.upper()} {page.section} "" "stablediffusiond {__version__}" "Stable Diffusion as a service"'
    yield ".SH NAME"
    yield ", ".join([page.name, *page.also_called]) + rf" \- {_escaped(page.what)}"
    yield ".SH SYNOPSIS"
    yield rf"\fB{page.name}\fR {_escaped(' '.join(page.command.collect_usage_pieces(context)))}"
    yield from _paragraphs(page.command.help or "", "DESCRIPTION")
    yield ".SH OPTIONS"
    yield from _options(context)
    for command in page.commands:
        yield from _command(command, page.name)
    yield from _paragraphs(page.command.epilog or "", "NOTES")
    yield ".SH FILES"
    yield ".I /etc/stablediffusiond/settings.toml"
    yield ".SH SEE ALSO"
    yield ",\n".join(f".BR {other.name} ({other.section})" for other in all_pages if other is not page)


def _command(command: click.Command, before: str) -> Iterator[str]:
    """A section for ``command``, and one for each of its own."""
    name = f"{before} {command.name}"
    context = click.Context(command, **command.context_settings)
    yield f".SH {_escaped(name)}"
    yield rf"\fB{_escaped(name)}\fR {_escaped(' '.join(command.collect_usage_pieces(context)))}"
    yield ".PP"
    yield from _text(command.help or "")
    yield from _options(context)
    if isinstance(command, click.Group):
        for each in command.commands.values():
            yield from _command(each, name)


def _options(context: click.Context) -> Iterator[str]:
    for parameter in context.command.get_params(context):
        if isinstance(parameter, click.Option) and (record := parameter.get_help_record(context)):
            yield ".TP"
            yield rf"\fB{_escaped(record[0])}\fR"
            yield _escaped(record[1])


def _text(text: str) -> Iterator[str]:
    """``text`` without titles."""
    for number, paragraph in enumerate(re.split(r"\n\s*\n", inspect.cleandoc(text))):
        yield from [".PP"] if number else []
        yield from map(_escaped, paragraph.splitlines())


def _paragraphs(text: str, section: str) -> Iterator[str]:
    """``text`` as click's help writes it; ``section`` is that of what comes before the first title."""
    heading: str | None = section
    for paragraph in filter(None, re.split(r"\n\s*\n", text.strip())):
        lines = paragraph.strip("\n").splitlines()
        unwrapped = lines[0] == _UNWRAPPED
        lines = lines[1:] if unwrapped else [line.strip() for line in lines]
        if title := _TITLE.match(lines[0]):
            heading, lines = title[1].upper(), lines[1:]
        yield f".SH {heading}" if heading else ".PP"
        heading = None
        yield from [".nf", *map(_escaped, lines), ".fi"] if unwrapped else map(_escaped, lines)


def _escaped(text: str) -> str:
    """``text`` as groff has to be told it; a dot that begins a line would be a macro."""
    escaped = text.translate(_ESCAPES)
    return rf"\&{escaped}" if escaped.startswith(".") else escaped


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files().items():
        (folder / name).write_text(text, "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
