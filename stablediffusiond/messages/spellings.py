"""Objects inside a request, as LoRAs and ControlNets: their fields' other spellings, and what is wrong in them."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from stablediffusiond.errors import InvalidRequest
from stablediffusiond.messages.validation import first_problem
from stablediffusiond.messages.values import Body, shown

Object = TypeVar("Object", bound=BaseModel)


def by_field(given: Body, spellings: Mapping[str, Sequence[str]], where: str) -> Body:
    """What ``given`` says, by our names of the fields.

    Raises:
        InvalidRequest: something in it is none of ``spellings``, or two spellings of one field differ; ``where`` is the
            field that the object stands in.
    """
    known = {spelling for each in spellings.values() for spelling in each}
    if unknown := [name for name in given if name not in known]:
        said = f"knows no {shown(unknown[0])}; known: {', '.join(spellings)}"
        raise InvalidRequest(f"{where!r} {said}", field=where)
    found: Body = {}
    for field, own in spellings.items():
        first, *others = [name for name in own if name in given] or [""]
        for other in others:
            if str(given[first]) != str(given[other]):
                said = f"{first!r} and {other!r} of {where!r} mean the same and differ; send one"
                raise InvalidRequest(said, field=where)
        if first:
            found[field] = given[first]
    return found


def read_as(kind: type[Object], given: Body, where: str) -> Object:
    """``given`` as one of ``kind``.

    Raises:
        InvalidRequest: it cannot be one: the first thing that is wrong, and the field ``where`` the object stands.
    """
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        name, reason = first_problem(error)
        raise InvalidRequest(f"{name or next(iter(kind.model_fields))!r} of {where!r} {reason}", field=where) from None
