"""Files that are there, whole, after a power cut: written beside their place, synced, moved there, and the move synced.

Everything here blocks; it is called in threads.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

PART: Final = ".part"  #: what a name ends with while its file is written


def write(folder: Path, files: Iterable[tuple[str, bytes]]) -> None:
    """Write ``files`` into ``folder``, in this order: none is there without those before it.

    Raises:
        OSError: the disk is full, or refuses.
    """
    for name, data in files:
        part = folder / f"{name}{PART}"
        with part.open("wb") as writing:
            writing.write(data)
            writing.flush()
            os.fdatasync(writing.fileno())
        part.rename(folder / name)
    sync(folder)


def make_folder(folder: Path) -> None:
    """Make ``folder``, and have it there for good. Raises FileExistsError, and OSError."""
    folder.mkdir(mode=0o700)
    sync(folder.parent)


def sync(folder: Path) -> None:
    """Have the names in ``folder`` on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
