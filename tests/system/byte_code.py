"""What this Python has compiled of the libraries, for one that installs them anew: to compile all of them takes a minute.

Each file says of which source it is, so that Python passes over those of another version (PEP 552).
"""

import importlib.util
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement

_EXTRAS: Final = ("engine", "gateway")
#: "Use this if its source has the hash that follows."
_CHECKED_HASH: Final = (0b11).to_bytes(4, "little")
_HEADER_BYTES: Final = 16


def copy_byte_code(to: Path) -> None:
    """All of it, as it will lie below a virtual environment."""
    for each in _installed():
        for source in _sources(each):
            compiled = Path(importlib.util.cache_from_source(source))
            if compiled.is_file():
                copy = to / compiled.relative_to(sys.prefix)
                copy.parent.mkdir(parents=True, exist_ok=True)
                hashed = importlib.util.source_hash(source.read_bytes())
                code = compiled.read_bytes()[_HEADER_BYTES:]
                copy.write_bytes(importlib.util.MAGIC_NUMBER + _CHECKED_HASH + hashed + code)


def _installed() -> list[Distribution]:
    """What ``sudo ./install.sh`` installs, and nothing else: an empty folder would be a package to those who look."""
    found = {"spandrel": distribution("spandrel")}
    wanted = list(_required("stablediffusiond", _EXTRAS))
    while wanted:
        requirement = wanted.pop()
        if requirement.name not in found:
            found[requirement.name] = distribution(requirement.name)
            wanted += _required(requirement.name, requirement.extras)
    return list(found.values())


def _required(name: str, extras: "tuple[str, ...] | set[str]") -> Iterator[Requirement]:
    for text in distribution(name).requires or ():
        requirement = Requirement(text)
        if requirement.marker is None or any(requirement.marker.evaluate({"extra": each}) for each in (*extras, "")):
            yield requirement


def _sources(of: Distribution) -> Iterator[Path]:
    for file in of.files or ():
        if file.suffix == ".py" and ".." not in file.parts:
            yield Path(str(of.locate_file(file)))
