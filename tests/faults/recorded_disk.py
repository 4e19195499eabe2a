"""A folder whose every change is recorded, so that its disk can lose what was not synced: a power cut.

A SIGKILL alone loses nothing, since what a process has written is in the kernel. Here it is followed by putting the folder
back to what a disk would have held (``disk_model``); the recording is done inside the process (``recorded_writes.c``).
"""

import random
import shutil
import struct
import subprocess
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Final, cast, get_args

from tests.faults.disk_model import DiskModel, Kind, Operation, Tree, read_tree

_SOURCE: Final = Path(__file__).with_name("recorded_writes.c")
_HEADER: Final = struct.Struct("=QQQIIII")
_KINDS: Final = get_args(Kind)


class RecordedDisk:
    """A folder that a process with ``environment`` writes to, and what it held when it was last known to be safe."""

    def __init__(self, folder: Path, beside: Path) -> None:
        """``beside`` is an empty folder for what is kept about the other one."""
        self.folder = folder
        self._before = beside / "before"
        self._synced_at: list[int] = []
        self._journal = beside / "journal"
        library = beside / "recorded_writes.so"
        _compile(library)
        self.environment = {
            # By its name alone: what stands in LD_PRELOAD ends at a space.
            "LD_PRELOAD": library.name,
            "LD_LIBRARY_PATH": str(library.parent),
            "RECORDED_FOLDER": str(folder),
            "RECORDED_JOURNAL": str(self._journal),
        }
        self.keep()

    def keep(self) -> None:
        """What the folder holds is safe; nobody must write to it meanwhile."""
        shutil.rmtree(self._before, ignore_errors=True)
        shutil.copytree(self.folder, self._before)
        self._journal.write_bytes(b"")
        self._synced_at = []

    def sync(self) -> None:
        """Have all that was written until now safe, as the kernel has after half a minute, or sync(1) at once."""
        self._synced_at.append(time.monotonic_ns())

    def cut_power(self, rng: random.Random, *, lied_since: float | None = None) -> None:
        """Have the folder as it is after a power cut, when its process has just been killed.

        ``lied_since``: from then on, on the monotonic clock, the disk has only said that it synced: it holds what it
        would if the power had gone then.
        """
        gone_at = time.monotonic_ns() if lied_since is None else int(lied_since * 1e9)
        self._write(self._model(until=gone_at).after_power_cut(gone_at, rng))
        self.keep()

    def unrecorded(self) -> list[str]:
        """What is not in the folder as it would be if everything was recorded: none, unless a system call is missing."""
        seen, there = self._model().seen(), read_tree(self.folder)
        return [path for path in seen.keys() | there.keys() if seen.get(path, 0) != there.get(path, 0)]

    def _model(self, until: int | None = None) -> DiskModel:
        model = DiskModel(self._before)
        syncs = deque(self._synced_at)
        for operation in self._operations():
            if until is not None and operation.nanoseconds > until:
                break
            while syncs and syncs[0] < operation.nanoseconds:
                syncs.popleft()
                model.sync_all()
            model.feed(operation)
        if syncs and (until is None or syncs[0] <= until):
            model.sync_all()
        return model

    def _write(self, tree: Tree) -> None:
        shutil.rmtree(self.folder)
        self.folder.mkdir()
        for path, contents in sorted(tree.items()):
            if contents is None:
                (self.folder / path).mkdir(parents=True, exist_ok=True)
            else:
                (self.folder / path).write_bytes(contents)

    def _operations(self) -> Iterator[Operation]:
        with self._journal.open("rb") as journal:
            while len(header := journal.read(_HEADER.size)) == _HEADER.size:
                nanoseconds, inode, offset, number, length, second_length, _ = _HEADER.unpack(header)
                first, second = journal.read(length), journal.read(second_length)
                kind = cast("Kind", _KINDS[number - 1])
                if kind == "written":
                    yield Operation(nanoseconds, kind, inode, offset, data=first)
                else:
                    yield Operation(nanoseconds, kind, inode, offset, self._path(first), self._path(second))

    def _path(self, path: bytes) -> str:
        return str(Path(path.decode()).relative_to(self.folder)) if path else ""


def _compile(library: Path) -> None:
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror", "-o", library, _SOURCE], check=True
    )
