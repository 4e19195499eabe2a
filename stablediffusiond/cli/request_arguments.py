"""What is asked for: the argument, the options and perhaps standard input, as the fields of a request."""

import sys
from collections.abc import Mapping
from pathlib import Path

import click

from stablediffusiond.client.image_argument import read_file
from stablediffusiond.errors import InvalidRequest, UnreadableMessage
from stablediffusiond.messages import picture_text
from stablediffusiond.messages.body import parse
from stablediffusiond.messages.request import Request
from stablediffusiond.messages.text import BYTE_ORDER_MARK, decode
from stablediffusiond.messages.values import Body


def is_json(prompt: str) -> bool:
    return prompt.lstrip().startswith("{")


def read(prompt: str) -> str:
    """The prompt, without a byte order mark; ``-`` is standard input."""
    if prompt != "-":
        return prompt.removeprefix(BYTE_ORDER_MARK)
    try:
        return decode(sys.stdin.buffer.read(), "standard input").removesuffix("\n").removesuffix("\r")
    except UnreadableMessage as error:
        raise click.UsageError(str(error)) from None


def request(
    prompt: str,
    options: Mapping[str, object],
    pictures: Mapping[str, Path | None],
    extend: tuple[str, ...] = (),
) -> tuple[Request, list[str]]:
    """The request and the warnings about it. Options stand beside the fields of JSON, and win over the same name.

    Raises:
        InvalidRequest: it cannot be drawn.
    """
    try:
        prompt.encode()
        fields: Body = parse(prompt.encode()) if is_json(prompt) else {"prompt": prompt}
    except UnicodeEncodeError:
        raise InvalidRequest("the prompt is not UTF-8", field="prompt") from None
    except UnreadableMessage as error:
        raise InvalidRequest(f"{error}; a prompt that begins with '{{' is taken for JSON") from None
    fields |= {name: value for name, value in options.items() if value is not None}
    for name, path in pictures.items():
        if path is None:
            continue
        try:
            fields[name] = read_file(path, name)
        except InvalidRequest as error:
            raise click.UsageError(str(error).replace(f"'{name}'", f"--{name}")) from None
    if extend:
        fields = _extended(fields, extend)
    return Request.from_fields(fields)


def _extended(fields: Body, texts: tuple[str, ...]) -> Body:
    """``fields`` of a request that draws its image on; what they say themselves counts."""
    from stablediffusiond.client.extending import extended, read_sides  # noqa: PLC0415 (Pillow takes its time)

    try:
        image = picture_text.read(fields.pop("image", None))
    except ValueError:
        image = None
    if not isinstance(image, bytes):
        raise click.UsageError("--extend draws an --image on, and there is none")
    return {**extended(image, read_sides(texts)), **fields}
