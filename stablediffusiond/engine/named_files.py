"""Files that requests name: found in a folder by their names, read when first asked for, kept by bytes."""

import difflib
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, Generic, TypeVar

from stablediffusiond.engine.device_errors import as_job_errors
from stablediffusiond.errors import InvalidRequest, ModelError

log = logging.getLogger(__name__)

Read = TypeVar("Read")

#: What makes a folder one thing, in the layout of diffusers.
_CONFIG: Final = "config.json"


class NamedFiles:
    """What is in ``folder``, each a ``kind``; ``field`` of a request names them, ``setting`` is where the folder is.

    What is in ``built_in`` came with the model, and stands back behind a file of the same name in ``folder``.
    """

    def __init__(
        self,
        kind: str,
        field: str,
        setting: str,
        folder: Path | None,
        *,
        suffixes: Sequence[str] = (".safetensors",),
        with_folders: bool = True,
        built_in: Path | None = None,
        beside: Sequence[str] = (),
    ) -> None:
        """``with_folders`` is for what may also be a folder in the layout of diffusers; ``beside`` needs no file."""
        self._beside = beside
        self._kind = kind
        self._field = field
        self._setting = setting
        self._built_in = built_in
        self._folder = folder
        self._suffixes = suffixes
        self._with_folders = with_folders

    def names(self) -> list[str]:
        return sorted(self.paths())

    def paths(self) -> dict[str, Path]:
        """By their names. Looked up anew each time: whoever copies a file there may ask for it at once."""
        found: dict[str, Path] = {}
        for folder in (self._built_in, self._folder):
            if folder is not None and folder.is_dir():
                found |= self._paths_in(folder)
        return found

    def find(self, name: str, paths: Mapping[str, Path]) -> Path:
        """The one of ``paths`` called ``name``; another case is no other name, as long as one file alone is meant.

        Raises:
            InvalidRequest: there is none; it says which is the nearest.
        """
        if name in paths:
            return paths[name]
        folded = [path for known, path in paths.items() if known.casefold() == name.casefold()]
        if len(folded) == 1:
            return folded[0]
        raise InvalidRequest(f"there is no {self._kind} {name!r} here{self._nearest(name, paths)}", field=self._field)

    def kept(self, read: Callable[[Path], Read], bytes_of: Callable[[Read], int], most_bytes: int) -> "Kept[Read]":
        """What ``read`` makes of them; the latest used stay, up to ``most_bytes``."""
        return Kept(self, self._kind, read, bytes_of, most_bytes)

    def _paths_in(self, folder: Path) -> dict[str, Path]:
        folders = {path.parent for path in folder.rglob(_CONFIG)}
        files = (
            path
            for path in folder.rglob("*")
            if path.suffix in self._suffixes and path.is_file() and path.parent not in folders
        )
        named = sorted(folders) if self._with_folders else []
        return {path.name: path for path in named} | {path.stem: path for path in sorted(files)}

    def _nearest(self, name: str, paths: Mapping[str, Path]) -> str:
        known = {each.casefold(): each for each in (*self._beside, *paths)}
        if near := difflib.get_close_matches(name.casefold(), known, n=1, cutoff=0.5):
            return f"; did you mean {known[near[0]]!r}?"
        if not paths:
            return f": this service has none ({self._setting})"
        return f"; there is {min(paths)!r}" if len(paths) == 1 else f"; there are {len(paths)}, as {min(paths)!r}"


class Kept(Generic[Read]):
    """Safe from any thread; one file is read at a time."""

    def __init__(
        self,
        files: NamedFiles,
        kind: str,
        read: Callable[[Path], Read],
        bytes_of: Callable[[Read], int],
        most_bytes: int,
    ) -> None:
        self._files = files
        self._kind = kind
        self._read = read
        self._bytes_of = bytes_of
        self._most_bytes = most_bytes
        self._kept: OrderedDict[tuple[Path, int], Read] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, names: Sequence[str]) -> tuple[Read, ...]:
        """What ``names`` name.

        Raises:
            InvalidRequest: there is no such file, or it is not for this model.
            ModelError, OutOfMemory: it cannot be read.
        """
        if not names:
            return ()
        known = self._files.paths()
        return self.read([self._files.find(name, known) for name in names])

    def read(self, paths: Sequence[Path]) -> tuple[Read, ...]:
        """What ``paths``, some of the files, hold.

        Raises:
            InvalidRequest: one is not for this model.
            ModelError, OutOfMemory: one cannot be read.
        """
        with self._lock:
            return tuple(self._one(path) for path in paths)

    def _one(self, path: Path) -> Read:
        try:
            key = path, path.stat().st_mtime_ns
        except OSError as error:
            raise ModelError(f"the {self._kind} {path.stem!r} cannot be read: {error.strerror}") from error
        if key not in self._kept:
            with as_job_errors():  # the device may have no room for it
                made = self._read(path)
            log.info("the %s %s is read: %.1f MB", self._kind, path.stem, self._bytes_of(made) / 1e6)
            self._kept[key] = made
        self._kept.move_to_end(key)
        while sum(map(self._bytes_of, self._kept.values())) > self._most_bytes and len(self._kept) > 1:
            self._kept.popitem(last=False)
        return self._kept[key]
