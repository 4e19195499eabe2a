"""The values of a request as all kinds of clients send them: which of them ask for nothing."""

from typing import Final

Body = dict[str, object]

_SHOWN_CHARACTERS: Final = 100
#: Texts for nothing; "None" is A1111's own, for scripts, upscalers and the like.
_NOTHING: Final = frozenset({"", "false", "none", "null"})
#: What the documentation pages of web APIs (Swagger UI) put where a text has no default.
_PLACEHOLDER: Final = "string"


def asks_for_nothing(value: object, also: tuple[object, ...] = ()) -> bool:
    """Whether ``value`` is empty, or one of ``also``; numbers and booleans may come as text."""
    if isinstance(value, list):
        return all(not each if isinstance(each, list | dict) else _is_nothing(each, also) for each in value)
    return not value if isinstance(value, dict) else _is_nothing(value, also)


def is_placeholder(value: object) -> bool:
    return value in (_PLACEHOLDER, [_PLACEHOLDER])


def is_false(value: object) -> bool:
    return value is False or (isinstance(value, str) and value.strip().lower() == "false")


def is_true(value: object) -> bool:
    return value is True or value == 1 or (isinstance(value, str) and value.strip().lower() in {"true", "1", "yes"})


def shortest(number: float) -> str:
    """The shortest text that reads as ``number``: "7", "0.8"."""
    text = f"{number:g}"
    return text if float(text) == number else repr(number)


def shown(value: object) -> str:
    """A value of a request, for an error message: cut off where it is long."""
    try:
        text = repr(value)
    except ValueError:  # Python writes no number of more than 4,300 digits
        text = "a number of thousands of digits"
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"


def _is_nothing(value: object, also: tuple[object, ...]) -> bool:
    if isinstance(value, str):
        text = value.strip().lower()
        if text in _NOTHING or value == _PLACEHOLDER or text in also:
            return True
        try:
            value = float(text)
        except ValueError:
            return False
    return value is None or value in (0, -1) or value in also
