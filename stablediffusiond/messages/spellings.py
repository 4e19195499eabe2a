"""Objects inside a request whose fields have several spellings, as those of LoRAs and ControlNets."""

from collections.abc import Mapping, Sequence

from stablediffusiond.errors import InvalidRequest
from stablediffusiond.messages.values import Body, shown


def by_field(given: Body, spellings: Mapping[str, Sequence[str]], where: str) -> dict[str, list[object]]:
    """The values in ``given`` by our names of the fields: more than one where several spellings stand beside another.

    Raises:
        InvalidRequest: something in it is none of ``spellings``; ``where`` is the field that the object stands in.
    """
    known = {spelling for each in spellings.values() for spelling in each}
    if unknown := [name for name in given if name not in known]:
        said = f"knows no {shown(unknown[0])}; known: {', '.join(spellings)}"
        raise InvalidRequest(f"{where!r} {said}", field=where)
    found = {name: [given[each] for each in own if each in given] for name, own in spellings.items()}
    return {name: values for name, values in found.items() if values}
