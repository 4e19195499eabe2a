"""What a disk holds after a power cut, reckoned from what was written to it and what was synced.

The model is a Linux file system with one ordered journal, as ext4 is:

- What was written to a file is safe once that file was synced, or after half a minute, when the kernel writes it unasked.
  Until then any of its pages may be there or not.
- Names (made, renamed, removed) are safe once any file was synced, since all of them share the journal, or after five
  seconds. Until then the first few of them may be there, but never a later one without an earlier one.
- A file that is renamed over another, or was emptied and filled again, is written first (``auto_da_alloc``).
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, NamedTuple

Kind = Literal[
    "opened", "written", "resized", "synced", "renamed", "unlinked", "made_folder", "removed_folder", "closed"
]
#: Contents by path; None is a folder.
Tree = dict[str, bytes | None]

WRITTEN_UNASKED_SECONDS: Final = 30
_JOURNAL_SECONDS: Final = 5
_PAGE_BYTES: Final = 4096


class Operation(NamedTuple):
    """One change of a folder, as it was recorded; what does not belong to its kind is empty."""

    nanoseconds: int
    kind: Kind
    inode: int
    offset: int  #: where it was written; or the new size; or, of what was opened, 1 if that has emptied it
    path: str = ""
    second_path: str = ""
    data: bytes = b""


class Change(NamedTuple):
    """``data`` was written at ``offset``; None: the file was cut off, or extended, there."""

    nanoseconds: int
    offset: int
    data: bytes | None

    def apply(self, contents: bytearray) -> None:
        if len(contents) < self.offset:
            contents.extend(bytes(self.offset - len(contents)))
        if self.data is None:
            del contents[self.offset :]
        else:
            contents[self.offset : self.offset + len(self.data)] = self.data

    def pages(self) -> "list[Change]":
        """Itself in the pieces that a disk writes."""
        if self.data is None:
            return [self]
        ends = [*range(_PAGE_BYTES - self.offset % _PAGE_BYTES, len(self.data), _PAGE_BYTES), len(self.data)]
        return [
            Change(self.nanoseconds, self.offset + start, self.data[start:end])
            for start, end in zip([0, *ends], ends, strict=False)
        ]


@dataclass
class File:
    safe: bytearray = field(default_factory=bytearray)
    pending: list[Change] = field(default_factory=list)
    emptied: bool = False  #: since it was last closed, and it had contents

    def sync(self) -> None:
        for change in self.pending:
            change.apply(self.safe)
        self.pending.clear()

    def seen(self) -> bytes:
        """As its writer sees it."""
        contents = bytearray(self.safe)
        for change in self.pending:
            change.apply(contents)
        return bytes(contents)


Names = dict[str, File | None]


class DiskModel:
    """Fed with the operations on a folder in their order."""

    def __init__(self, folder: Path) -> None:
        """``folder`` is how it was before, all of it safe."""
        self._safe: Names = {
            path: None if contents is None else File(bytearray(contents))
            for path, contents in read_tree(folder).items()
        }
        self._names = dict(self._safe)
        self._inodes: dict[int, File] = {}
        self._pending: list[tuple[int, Callable[[Names], object]]] = []

    def feed(self, operation: Operation) -> None:
        path = operation.path
        match operation.kind:
            case "opened":
                self._open(operation)
            case "written":
                self._change(operation, operation.data)
            case "resized":
                self._change(operation, None)
            case "synced":
                self._sync(self._inodes.get(operation.inode))
            case "closed":
                self._close(operation)
            case "renamed":
                self._rename(operation)
            case "made_folder":
                self._name(operation, lambda names: names.update({path: None}))
            case "unlinked" | "removed_folder":
                self._name(operation, lambda names: names.pop(path))

    def sync_all(self) -> None:
        for file in self._files():
            self._sync(file)
        self._sync(None)

    def seen(self) -> Tree:
        """As its writer sees it, and as it is after a SIGKILL."""
        return {path: None if file is None else file.seen() for path, file in self._names.items()}

    def after_power_cut(self, nanoseconds: int, rng: random.Random) -> Tree:
        """What is there when the power, gone at that time, is back; the model is at its end then."""
        for file in self._files():
            _lose(file, nanoseconds - WRITTEN_UNASKED_SECONDS * 10**9, rng)
        old = sum(when < nanoseconds - _JOURNAL_SECONDS * 10**9 for when, _ in self._pending)
        for _, change in self._pending[: rng.randint(old, len(self._pending))]:
            change(self._safe)
        return {path: None if file is None else bytes(file.safe) for path, file in self._safe.items()}

    def _files(self) -> list[File]:
        """Those that have a name, and those that are only open."""
        return list({id(file): file for file in (*self._names.values(), *self._inodes.values()) if file}.values())

    def _open(self, operation: Operation) -> None:
        path = operation.path
        file = self._names.get(path)
        if file is None:
            file = made = File()
            self._name(operation, lambda names: names.update({path: made}))
        self._inodes[operation.inode] = file
        if operation.offset:
            self._change(operation._replace(offset=0), None)

    def _change(self, operation: Operation, data: bytes | None) -> None:
        file = self._inodes[operation.inode]
        file.emptied |= data is None and not operation.offset and bool(file.safe or file.pending)
        file.pending.append(Change(operation.nanoseconds, operation.offset, data))

    def _close(self, operation: Operation) -> None:
        file = self._inodes.get(operation.inode)
        if file is not None and file.emptied:
            file.sync()
            file.emptied = False

    def _sync(self, file: File | None) -> None:
        """None: a folder."""
        if file is not None:
            file.sync()
        for _, change in self._pending:
            change(self._safe)
        self._pending.clear()

    def _rename(self, operation: Operation) -> None:
        source, target = operation.path, operation.second_path
        file = self._names[source]
        if file is not None and target in self._names:
            file.sync()

        def rename(names: Names) -> None:
            names[target] = names.pop(source)
            for below in [path for path in names if path.startswith(f"{source}/")]:
                names[target + below.removeprefix(source)] = names.pop(below)

        self._name(operation, rename)

    def _name(self, operation: Operation, change: Callable[[Names], object]) -> None:
        change(self._names)
        self._pending.append((operation.nanoseconds, change))


def _lose(file: File, safe_before_nanoseconds: int, rng: random.Random) -> None:
    """Of what is pending and young, some pages are on the disk, or all, or mostly none."""
    likely = rng.choice((0.0, 0.0, 0.5, 1.0))
    for change in file.pending:
        if change.nanoseconds < safe_before_nanoseconds:
            change.apply(file.safe)
        else:
            for page in change.pages():
                if rng.random() < likely:
                    page.apply(file.safe)
    file.pending.clear()


def read_tree(folder: Path) -> Tree:
    return {str(path.relative_to(folder)): None if path.is_dir() else path.read_bytes() for path in folder.rglob("*")}
