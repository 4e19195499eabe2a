"""``dead``: what was put aside for an operator, and what becomes of it."""

import asyncio
import json
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from stablediffusiond.cli.standard_output import print_json
from stablediffusiond.errors import QueueMissing, StableDiffusiondError, Unroutable

if TYPE_CHECKING:
    from stablediffusiond.client.dead_letters import DeadLetter, DeadLetterQueue

_QUEUES: Final = ("dead", "unroutable")


class NoSuchDeadLetter(StableDiffusiondError):
    """Raised when there is no message of that id."""

    exit_code = 1


class NotRetried(StableDiffusiondError):
    """Raised when some messages have no queue to go to, and stay."""

    exit_code = 1


@dataclass(frozen=True)
class _GroupOptions:
    """The options of the group, for its commands."""

    config: Path | None
    unroutable: bool


@click.group("dead", context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--queue",
    type=click.Choice(_QUEUES),
    default="dead",
    show_default=True,
    help="dead: requests that are no JSON, or that ended the daemon four times. "
    "unroutable: replies whose queue was gone.",
)
@click.option("--config", metavar="FILE", type=click.Path(path_type=Path), help="Settings; see settings.example.toml.")
@click.pass_context
def command(context: click.Context, *, queue: str, config: Path | None) -> None:
    """Look at what was put aside for an operator, and retry or drop it.

    Nothing is lost meanwhile: a message leaves its queue when it is safe in another, or when it is dropped.

    This is for operators: run it with sudo. It then goes by the daemons' way to the broker,
    /etc/stablediffusiond/broker-url ([broker] operator_url_file).

    Exit codes: 0 done; 1 there is no message of that id, or no queue to put it into; 3 the broker cannot be reached, or
    refuses.
    """
    context.obj = _GroupOptions(config, queue == "unroutable")


@command.command("list")
@click.option(
    "--json", "as_json", is_flag=True, help="Print each as a line of JSON (docs/schema/dead_letter.schema.json)."
)
@click.pass_obj
def list_command(where: _GroupOptions, *, as_json: bool) -> None:
    """List what is there: id, since when, how large, why."""

    async def work(queue: "DeadLetterQueue") -> None:
        async for letter in queue.each(lambda _: True):
            if as_json:
                print_json(letter.facts.model_dump_json(exclude_none=True))
            else:
                click.echo(_line(letter))
            await queue.leave(letter)

    _on(where, work)


@command.command("show")
@click.argument("message_id", metavar="ID")
@click.option("--body", is_flag=True, help="Write only the body to standard output, as it is.")
@click.pass_obj
def show_command(where: _GroupOptions, *, message_id: str, body: bool) -> None:
    """Show a message as JSON, its body if that is text."""

    async def work(queue: "DeadLetterQueue") -> None:
        found = False
        async for letter in queue.each(lambda letter: letter.facts.id == message_id):
            found = True
            if body:
                sys.stdout.buffer.write(letter.message.body)
            else:
                print_json(_page(letter))
            await queue.leave(letter)
        if not found:
            raise NoSuchDeadLetter(f"there is no message {message_id!r}")

    _on(where, work)


@command.command("retry")
@click.argument("message_ids", metavar="ID...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All that are there.")
@click.pass_obj
def retry_command(where: _GroupOptions, *, message_ids: tuple[str, ...], everything: bool) -> None:
    """Put messages back to where they were going.

    A request keeps its id and the queue for its replies, and counts as published now; a reply goes to its queue, if
    that is there again. Their ids are printed.
    """
    chosen = _Chosen(message_ids, everything=everything)

    async def work(queue: "DeadLetterQueue") -> None:
        stay: list[str] = []
        async for letter in queue.each(chosen):
            try:
                await queue.retry(letter)
            except (Unroutable, QueueMissing) as error:
                stay.append(f"{letter.facts.id}: {error}")
                await queue.leave(letter)
            else:
                click.echo(letter.facts.id)
        if stay:
            raise NotRetried(f"these stay: {'; '.join(stay)}")
        chosen.check()

    _on(where, work)


@command.command("drop")
@click.argument("message_ids", metavar="ID...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All that are there.")
@click.pass_obj
def drop_command(where: _GroupOptions, *, message_ids: tuple[str, ...], everything: bool) -> None:
    """Delete messages from the queue. Their ids are printed."""
    chosen = _Chosen(message_ids, everything=everything)

    async def work(queue: "DeadLetterQueue") -> None:
        async for letter in queue.each(chosen):
            queue.drop(letter)
            click.echo(letter.facts.id)
        chosen.check()

    _on(where, work)


class _Chosen:
    """Whether a message was named."""

    def __init__(self, message_ids: tuple[str, ...], *, everything: bool) -> None:
        if everything == bool(message_ids):
            raise click.UsageError("name messages by their ids, or use --all")
        self._missing = set(message_ids)
        self._ids = None if everything else frozenset(message_ids)

    def __call__(self, letter: "DeadLetter") -> bool:
        self._missing.discard(letter.facts.id)
        return self._ids is None or letter.facts.id in self._ids

    def check(self) -> None:
        """Raise NoSuchDeadLetter for those that were named and not there."""
        if self._missing:
            raise NoSuchDeadLetter(f"there is no message {', '.join(map(repr, sorted(self._missing)))}")


def _on(where: _GroupOptions, work: Callable[["DeadLetterQueue"], Coroutine[Any, Any, None]]) -> None:
    """Do ``work`` on the queue that was chosen."""
    from stablediffusiond.client.dead_letters import opened  # noqa: PLC0415 (--help needs no AMQP)
    from stablediffusiond.settings import load  # noqa: PLC0415

    async def run() -> None:
        async with opened(load(where.config, operator=True), unroutable=where.unroutable) as queue:
            await work(queue)

    asyncio.run(run())


def _line(letter: "DeadLetter") -> str:
    facts = letter.facts
    why = facts.reason or f"{facts.type or 'message'} for {facts.was_for or 'an unknown queue'}"
    return f"{facts.id}  {facts.kept_at or 'at an unknown time'}  {facts.body_bytes} bytes  {why}"


def _page(letter: "DeadLetter") -> str:
    message = letter.message
    shown = {
        **letter.facts.model_dump(exclude_none=True),
        "message_id": message.message_id,
        "correlation_id": message.correlation_id,
        "headers": dict(message.headers),
        "body": _body(message.body),
    }
    return json.dumps(shown, indent=2, ensure_ascii=False, default=str)


def _body(body: bytes) -> object:
    """JSON as such, text as text; other bytes are only counted."""
    try:
        return json.loads(body)
    except ValueError:
        pass  # not JSON, which is often why it is here
    try:
        return body.decode()
    except UnicodeDecodeError:
        return None
