"""A1111's ``parameters`` text: how a picture was drawn, for people and for programs.

    a red cat <lora:ink:0.8>
    Negative prompt: dog
    Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7.5, Seed: 42, Size: 512x512, Model: doodle

Both directions follow its own code (``create_infotext``, ``parse_generation_parameters``): the last line is ``Key:
value`` with commas between; a value that has a comma, a colon or a line end in it is a string of JSON. The prompt is
not quoted: one with a line ``Negative prompt:`` in it is read as two, which is why our own request stands beside it.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

#: The first line that begins so ends the prompt.
_NEGATIVE: Final = "Negative prompt:"
#: With fewer, the last line is one of the prompt's.
_LEAST_PARAMETERS: Final = 3
_KEY_BACKWARDS: Final = re.compile(r"[\w \-/]*")
_BEFORE_KEY: Final = " -/"
_QUOTED: Final = re.compile(r'\s*("(?:\\.|[^\\"])+")(?:,|$)')
_PLAIN: Final = re.compile(r"\s*([^,]*)(?:,|$)")


@dataclass(frozen=True)
class Infotext:
    prompt: str
    negative_prompt: str
    parameters: Mapping[str, str]


def write(text: Infotext) -> str:
    """As A1111 writes it."""
    negative = f"{_NEGATIVE} {text.negative_prompt}" if text.negative_prompt else ""
    parameters = ", ".join(f"{key}: {_quoted(value)}" for key, value in text.parameters.items())
    return "\n".join(part for part in (text.prompt, negative, parameters) if part).strip()


def read(text: str) -> Infotext:
    """As A1111 reads it, in time that grows with the length of ``text`` alone, whatever it is."""
    *lines, last = text.strip().split("\n")
    parameters = _parameters(last)
    if len(parameters) < _LEAST_PARAMETERS:
        lines, parameters = [*lines, last], []
    prompt: list[str] = []
    negative: list[str] | None = None
    for line in (each.strip() for each in lines):
        if line.startswith(_NEGATIVE):
            negative = [*(negative or []), line.removeprefix(_NEGATIVE).strip()]
        else:
            (prompt if negative is None else negative).append(line)
    return Infotext("\n".join(prompt).lstrip("\n"), "\n".join(negative or []).lstrip("\n"), dict(parameters))


def _quoted(value: str) -> str:
    return json.dumps(value, ensure_ascii=False) if re.search(r"[,:\n]", value) else value


def _unquoted(value: str) -> str:
    if not value.startswith('"') or not value.endswith('"'):
        return value
    try:
        made: object = json.loads(value)
    except ValueError:
        return value
    return made if isinstance(made, str) else value


def _parameters(line: str) -> list[tuple[str, str]]:
    """What A1111's ``re_param`` finds in ``line``, looking from each colon back for its key."""
    found: list[tuple[str, str]] = []
    at = 0
    while (colon := line.find(":", at)) >= 0:
        backwards = _KEY_BACKWARDS.match(line[at:colon][::-1])
        key = backwards[0][::-1].lstrip(_BEFORE_KEY) if backwards else ""
        if len(key) < 2:
            at = colon + 1
            continue
        value = _QUOTED.match(line, colon + 1) or _PLAIN.match(line, colon + 1)
        if value is None:
            break
        found.append((key, _unquoted(value[1])))
        at = value.end()
    return found
