"""A folder on a disk.

Files that are whole, and files that are there after a power cut, are two things, of which the second takes its time.
``place`` makes a file appear at once, whole for all who look; ``sync`` returns when it will be there whatever happens.
Who waits for a picture gets it after the first; its reply is acked after the second. What blocks is done in threads.
"""

import asyncio
import contextlib
import fcntl
import os
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import BinaryIO, Final, TypeVar

from stablediffusiond import sandbox
from stablediffusiond.errors import SettingsError
from stablediffusiond.gateway.errors import StoreUnavailable
from stablediffusiond.gateway.store.files import PIECE_BYTES

Result = TypeVar("Result")

_PART: Final = ".part"  #: what a name ends with while its file is written
_LOCK: Final = "lock"


class DiskFiles:
    """``Files`` in ``root``, of this process alone from ``open`` to ``close``."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lock: int | None = None

    async def open(self) -> None:
        """Make the folder and take it.

        Raises:
            SettingsError: it cannot be made or written, or another gateway has it.
        """
        if self._lock is not None:
            return
        try:
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(self._root / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            why = sandbox.hides(self._root) or error.strerror
            message = f"settings: [gateway] store: {self._root}: {why}; name a folder that can be written"
            raise SettingsError(message) from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            await self.close()
            message = f"settings: [gateway] store: another gateway uses {self._root}; each needs its own"
            raise SettingsError(message) from None

    async def create(self, folder: str, files: Sequence[tuple[str, bytes]]) -> None:
        await _in_thread(_create, self._root / folder, files)

    async def place(self, folder: str, files: Sequence[tuple[str, bytes]]) -> None:
        await _in_thread(_place, self._root / folder, files)

    async def sync(self, folder: str, names: Sequence[str]) -> None:
        await _in_thread(_sync, self._root / folder, names)

    async def read(self, folder: str, name: str) -> bytes | None:
        try:
            return await _in_thread((self._root / folder / name).read_bytes)
        except FileNotFoundError:
            return None

    async def stream(self, folder: str, name: str) -> AsyncIterator[bytes]:
        file, first = await _in_thread(_begin, self._root / folder / name)
        return _pieces(file, first)

    async def sizes(self, folder: str) -> dict[str, int]:
        try:
            return await _in_thread(_sizes, self._root / folder)
        except FileNotFoundError:
            return {}

    async def folders(self, folder: str) -> dict[str, dict[str, int]]:
        return await _in_thread(_folders, self._root / folder)

    async def delete(self, folder: str, first: str) -> None:
        await _in_thread(_delete, self._root / folder, first)

    async def close(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


async def _in_thread(blocking: Callable[..., Result], *arguments: object) -> Result:
    try:
        return await asyncio.to_thread(blocking, *arguments)
    except (FileExistsError, FileNotFoundError):
        raise
    except OSError as error:
        raise StoreUnavailable(str(error.strerror)) from None


def _create(folder: Path, files: Sequence[tuple[str, bytes]]) -> None:
    if not folder.parent.exists():
        folder.parent.mkdir(mode=0o700)
        _sync(folder.parent.parent, [])
    folder.mkdir(mode=0o700)
    _place(folder, files)


def _place(folder: Path, files: Sequence[tuple[str, bytes]]) -> None:
    for name, data in files:
        part = folder / f"{name}{_PART}"
        with open(part, "wb", opener=_for_us_alone) as file:
            file.write(data)
        part.rename(folder / name)


def _for_us_alone(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _sync(folder: Path, names: Sequence[str]) -> None:
    """With the folder, which says that they are there."""
    for path in (*(folder / name for name in names), folder):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _sizes(folder: Path) -> dict[str, int]:
    return {file.name: file.stat().st_size for file in folder.iterdir() if not file.name.endswith(_PART)}


def _folders(folder: Path) -> dict[str, dict[str, int]]:
    with contextlib.suppress(FileNotFoundError):
        return {each.name: _sizes(each) for each in folder.iterdir()}
    return {}


def _delete(folder: Path, first: str) -> None:
    with contextlib.suppress(OSError):
        (folder / first).unlink()
    shutil.rmtree(folder, ignore_errors=True)


def _begin(path: Path) -> tuple[BinaryIO, bytes]:
    file = path.open("rb")
    return file, file.read(PIECE_BYTES)


async def _pieces(file: BinaryIO, first: bytes) -> AsyncIterator[bytes]:
    with file:
        piece = first
        while piece:
            yield piece
            piece = b"" if len(piece) < PIECE_BYTES else await _in_thread(file.read, PIECE_BYTES)
