"""Which family a single file is of, by its header alone: before gigabytes move."""

import re
from dataclasses import dataclass
from typing import Final

from stablediffusiond.engine.checkpoints.families import EDITIONS, FAMILIES, NETWORK_PREFIXES, Edition, Family
from stablediffusiond.engine.checkpoints.header import Header
from stablediffusiond.engine.checkpoints.other_kinds import disguise_of, kind_of
from stablediffusiond.errors import ModelUnavailable

#: Dtypes whose tensors are numbers by themselves, or with a factor beside them.
_NUMBERS: Final = frozenset({"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"})
_QUANTISED: Final = re.compile(r"\.(absmax|quant_map|quant_state|qweight|qzeros|wscales|nested_absmax)(\.|$)")


@dataclass(frozen=True)
class Recognised:
    header: Header
    family: Family
    prefix: str
    """What stands before the names of the network's tensors."""
    edition: Edition | None


def recognise(header: Header) -> Recognised:
    """The family of a file.

    Raises:
        ModelUnavailable: it is something else, or its weights are in a format that is not read here.
    """
    if not header.quantised:
        _refuse_quantised(header)
    if (disguise := disguise_of(header)) is not None:
        raise ModelUnavailable(f"{header.path.name} {disguise}")
    for family in FAMILIES:
        for prefix in NETWORK_PREFIXES:
            if all(sign.on(header, prefix) for sign in family.signs) and not any(
                prefix + tensor in header for tensor in family.lacks
            ):
                return Recognised(header, family, prefix, edition_of(header.path.stem, family))
    raise ModelUnavailable(f"{header.path.name} {kind_of(header)}")


def edition_of(name: str, family: Family) -> Edition | None:
    """What the file's ``name`` says."""
    fitting = (
        each for each in EDITIONS if family.name.startswith(each.families) and re.search(each.pattern, name.lower())
    )
    return next(fitting, None)


def _refuse_quantised(header: Header) -> None:
    for name, facts in header.tensors.items():
        whole = facts.dtype not in _NUMBERS and name.endswith(".weight") and len(facts.shape) > 1
        if whole or _QUANTISED.search(name):
            raise ModelUnavailable(
                f"{header.path.name} is quantised ({name}: {facts.dtype}) in a way that is not read here; take the "
                "same model in fp8, fp16 or bf16"
            )
