"""What this Python has compiled of the libraries, for one that installs them anew: to compile all of them takes a minute.

Each file says of which source it is, so that Python passes over those of another version (PEP 552).
"""

import importlib.util
import os
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Final

#: "Use this if its source has the hash that follows."
_CHECKED_HASH: Final = (0b11).to_bytes(4, "little")
_HEADER_BYTES: Final = 16


def copy_byte_code(to: Path) -> None:
    """All of it, as it will lie below a virtual environment."""
    here = Path(sysconfig.get_path("purelib"))
    there = to / here.relative_to(sys.prefix)
    for source, compiled in _compiled(here):
        copy = there / compiled.relative_to(here)
        copy.parent.mkdir(parents=True, exist_ok=True)
        hashed = importlib.util.source_hash(source.read_bytes())
        code = compiled.read_bytes()[_HEADER_BYTES:]
        copy.write_bytes(importlib.util.MAGIC_NUMBER + _CHECKED_HASH + hashed + code)


def _compiled(folder: Path) -> Iterator[tuple[Path, Path]]:
    for where, _, files in os.walk(folder):
        for name in files:
            source = Path(where, name)
            if source.suffix == ".py" and (compiled := Path(importlib.util.cache_from_source(source))).is_file():
                yield source, compiled
