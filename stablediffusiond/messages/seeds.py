"""Seeds as people's tools write them: 64 bits, as a number or as text, or a word for "any"."""

import decimal
from typing import Final

from stablediffusiond.errors import InvalidRequest
from stablediffusiond.messages.values import shown

SEEDS: Final = 2**64
#: JavaScript has no whole numbers beyond this that it can tell apart; JSON readers in other languages follow it.
LARGEST_SAFE_NUMBER: Final = 2**53 - 1
#: What JavaScript makes of the largest seeds, which it rounds up.
_LARGEST_IN_JAVASCRIPT: Final = 18446744073709552000
_ANY: Final = frozenset({"", "random", "none", "null"})
#: More digits are no seed, and would cost something to read.
_MOST_CHARACTERS: Final = 40


def read(value: object, field: str = "seed") -> int | None:
    """The seed in ``value``, or None where it leaves the choice to us.

    Raises:
        InvalidRequest: it is no seed.
    """
    number = _number(value, field)
    if number is None or number == -1:
        return None
    if SEEDS <= number <= _LARGEST_IN_JAVASCRIPT:
        return SEEDS - 1
    if not 0 <= number < SEEDS:
        raise _no_seed(value, field)
    return number


def _number(value: object, field: str) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    text = str(value).strip().lower() if isinstance(value, str | float) else "?"
    if text in _ANY:
        return None
    try:
        number = decimal.Decimal(text[:_MOST_CHARACTERS])
    except decimal.InvalidOperation:
        raise _no_seed(value, field) from None
    # In this order: 1e999999 is a number that is only read in full to see whether it is whole.
    if len(text) > _MOST_CHARACTERS or not number.is_finite() or number.adjusted() > _MOST_CHARACTERS:
        raise _no_seed(value, field)
    if number != int(number):
        raise _no_seed(value, field)
    return int(number)


def _no_seed(value: object, field: str) -> InvalidRequest:
    return InvalidRequest(
        f"{field!r} must be a whole number from 0 to {SEEDS - 1}, or -1 for any, not {shown(value)}", field=field
    )
