"""What the store needs of the place where its files are: a folder, or a bucket of S3.

Folders are named from the root of the store, ``""`` itself. A file is written once, appears whole, and is not changed.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

#: Of a picture on its way to a client.
PIECE_BYTES: Final = 3 * 65_536


class Files(Protocol):
    """All of it may raise StoreUnavailable, and what is said beside it."""

    async def open(self) -> None:
        """Begin; raises SettingsError for what cannot work."""

    async def create(self, folder: str, files: Sequence[tuple[str, bytes]]) -> None:
        """Write ``files`` into a new folder. Raises FileExistsError where a folder can be seen to be there."""

    async def place(self, folder: str, files: Sequence[tuple[str, bytes]]) -> None:
        """Write ``files``, in this order. Raises FileNotFoundError where a folder can be seen to be gone."""

    async def sync(self, folder: str, names: Sequence[str]) -> None:
        """Return when these will be there after a power cut. Raises FileNotFoundError."""

    async def read(self, folder: str, name: str) -> bytes | None:
        """A file; None if there is none."""

    async def stream(self, folder: str, name: str) -> AsyncIterator[bytes]:
        """A file in pieces, of which the first is had when this returns. Raises FileNotFoundError."""

    async def sizes(self, folder: str) -> dict[str, int]:
        """The files of a folder, and how many bytes each has; empty if there is none."""

    async def folders(self, folder: str) -> dict[str, dict[str, int]]:
        """The folders in ``folder``, with their ``sizes``."""

    async def delete(self, folder: str, first: str) -> None:
        """Delete a folder, its file ``first`` before the others; does nothing if there is none."""

    async def close(self) -> None: ...


@dataclass(frozen=True)
class StoredFile:
    """A file that is there."""

    files: Files
    folder: str
    name: str
    size: int  #: in bytes

    async def read(self) -> bytes | None:
        return await self.files.read(self.folder, self.name)

    async def stream(self) -> AsyncIterator[bytes]:
        return await self.files.stream(self.folder, self.name)
