"""The body of a request: the JSON object in it."""

import json
import re
from typing import Final

from stablediffusiond.errors import UnreadableMessage
from stablediffusiond.messages.text import decode
from stablediffusiond.messages.values import Body, shown

#: A request has a few dozen fields. Beyond this a body is not even parsed: as Python objects it would fill memory.
_MAX_PARTS: Final = 50_000
#: The escape of half a character, which JSON lets pass and UTF-8 does not; most come in pairs and are harmless.
_HALF_CHARACTER: Final = re.compile(rb"\\u[dD][89a-fA-F]")


def parse(body: bytes) -> Body:
    """The JSON object in ``body``.

    Raises:
        UnreadableMessage: it is not UTF-8, not JSON or not an object.
    """
    if sum(body.count(mark) for mark in b",[{") > _MAX_PARTS:
        raise UnreadableMessage(f"the body has more than {_MAX_PARTS} parts")
    try:
        fields: object = json.loads(decode(body, "the body"), object_pairs_hook=_once_each)
        if _HALF_CHARACTER.search(body):
            json.dumps(fields, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise UnreadableMessage("the body is not Unicode: it has half of a surrogate pair") from None
    except (ValueError, RecursionError) as error:
        raise UnreadableMessage(f"the body is not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise UnreadableMessage(f"the body is JSON but no object: {type(fields).__name__}")
    return fields


def _once_each(pairs: list[tuple[str, object]]) -> Body:
    """An object of JSON; a name that is given twice must have the same value."""
    fields = dict(pairs)
    if len(fields) != len(pairs):
        for name, value in pairs:
            if fields[name] != value:
                raise ValueError(f"{shown(name)} is given twice, with different values")
    return fields
