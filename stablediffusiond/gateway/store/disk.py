"""Files that are whole, and files that are there after a power cut: two things, of which the second takes its time.

``place`` makes a file appear at once, whole for all who look; ``sync`` returns when it will be there whatever happens.
Who waits for a picture gets it after the first, and its reply is acked after the second. Everything here blocks; it is
called in threads.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

PART: Final = ".part"  #: what a name ends with while its file is written


def place(folder: Path, files: Iterable[tuple[str, bytes]]) -> None:
    """Write ``files`` into ``folder``, in this order.

    Raises:
        OSError: the disk is full, or refuses.
    """
    for name, data in files:
        part = folder / f"{name}{PART}"
        part.write_bytes(data)
        part.rename(folder / name)


def sync(folder: Path, names: Iterable[str]) -> None:
    """Have files of ``folder`` on the disk, and that they are there. Raises OSError."""
    for name in (*names, "."):
        descriptor = os.open(folder / name, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
