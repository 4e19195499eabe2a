"""What pydantic finds wrong in a request, in the words of all other errors."""

from typing import Final

from pydantic import ValidationError

_SHOWN_CHARACTERS: Final = 100
#: They are shown to nobody: megabytes, and somebody's picture.
_PICTURES: Final = frozenset({"image", "mask"})


def first_problem(error: ValidationError) -> tuple[str, str]:
    """The field that it is of, empty if it is of none, and what is wrong with it: "must be at most 10, not 99"."""
    first = error.errors(include_url=False, include_context=False)[0]
    name = str(first["loc"][0]) if first["loc"] else ""
    said = str(first["msg"]).removeprefix("Value error, ")
    reason = {"Field required": "is required"}.get(said, said[0].lower() + said[1:]).replace("input should", "must")
    value = first["input"]
    short = isinstance(value, str | int | float) and len(repr(value)) < _SHOWN_CHARACTERS and name not in _PICTURES
    return name, f"{reason}, not {value!r}" if short else reason
