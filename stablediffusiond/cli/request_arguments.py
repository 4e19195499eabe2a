"""What is asked for: the argument, the options and perhaps standard input, as the fields of a request."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import click

from stablediffusiond.client.image_argument import read_file
from stablediffusiond.client.like import request as request_like
from stablediffusiond.errors import InvalidRequest, UnreadableMessage
from stablediffusiond.messages import picture_text
from stablediffusiond.messages.aliases import canonical
from stablediffusiond.messages.body import parse
from stablediffusiond.messages.request import Request
from stablediffusiond.messages.text import BYTE_ORDER_MARK, decode
from stablediffusiond.messages.values import Body
from stablediffusiond.picture_formats import of_suffix


@dataclass(frozen=True)
class Files:
    """What the command line says of files."""

    pictures: Mapping[str, Path | None] = field(default_factory=dict)  #: field -> its picture
    like: Path | None = None  #: a picture's file that says how it was drawn
    output: str | None = None
    extend: tuple[str, ...] = ()  #: sides, and by how many pixels


@dataclass(frozen=True)
class Enlarging:
    """What the command line says of larger pictures, as text."""

    hires: str | None = None  #: a scale, or a size as 1024x1024
    hires_strength: str | None = None
    hires_steps: str | None = None
    upscale: str | None = None  #: a scale
    upscaler: str | None = None

    @classmethod
    def out_of(cls, options: dict[str, object]) -> Self:
        """What ``options`` say of it, which are then without."""
        said = {name: options.pop(name, None) for name in cls.__dataclass_fields__}
        return cls(**{name: None if value is None else str(value) for name, value in said.items()})

    def fields(self) -> Body:
        """The fields of a request that say it."""
        if self.upscale is not None:
            if self.hires or self.hires_strength or self.hires_steps:
                raise click.UsageError("--upscale draws nothing, and so has no --hires")
            return {"type": "upscale", "upscale_by": self.upscale, "upscaler": self.upscaler}
        if self.hires is None:
            if self.hires_strength or self.hires_steps or self.upscaler:
                raise click.UsageError("--hires or --upscale says by how much; what goes with them is of no use alone")
            return {}
        width, by, height = self.hires.partition("x")
        size: Body = {"width": width, "height": height} if by else {"scale": self.hires}
        others = {"strength": self.hires_strength, "steps": self.hires_steps, "upscaler": self.upscaler}
        return {"hires": {**size, **others}}


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


def request(prompt: str | None, options: Mapping[str, object], files: Files) -> tuple[Request, list[str]]:
    """The request and the warnings about it. Options stand beside the fields of JSON, and win over the same name.

    All of these win over what the file says that it is to be like, and over the format that the output's suffix says.

    Raises:
        InvalidRequest: it cannot be drawn.
    """
    fields = _fields(prompt)
    fields |= {name: value for name, value in options.items() if value is not None}
    for name, path in files.pictures.items():
        if path is None:
            continue
        try:
            fields[name] = read_file(path, name)
        except InvalidRequest as error:
            raise click.UsageError(str(error).replace(f"'{name}'", f"--{name}")) from None
    if files.extend:
        fields = _extended(fields, files.extend)
    suffix = of_suffix(os.path.splitext(files.output or "")[1])
    if suffix and "format" not in canonical(fields, Request.model_fields).fields:
        fields["format"] = suffix
    return Request.from_fields(fields) if files.like is None else request_like(files.like, fields)


def _fields(prompt: str | None) -> Body:
    if prompt is None:
        return {}
    try:
        prompt.encode()
        return parse(prompt.encode()) if is_json(prompt) else {"prompt": prompt}
    except UnicodeEncodeError:
        raise InvalidRequest("the prompt is not UTF-8", field="prompt") from None
    except UnreadableMessage as error:
        raise InvalidRequest(f"{error}; a prompt that begins with '{{' is taken for JSON") from None


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
