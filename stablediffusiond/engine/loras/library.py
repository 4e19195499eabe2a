"""The LoRAs of one model: found in a folder by their names, read when first asked for, kept by bytes."""

import difflib
import logging
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from stablediffusiond.engine.loras.by_rows import Adapters, AppliedLora
from stablediffusiond.engine.loras.file import Lora, read
from stablediffusiond.engine.networks import Pipeline
from stablediffusiond.errors import InvalidRequest, ModelError
from stablediffusiond.messages.loras import LoraUse

log = logging.getLogger(__name__)

_SUFFIX: Final = ".safetensors"


class LoraLibrary:
    """Those in ``folder`` for the model of ``pipeline``; of those read, the latest used stay, up to ``most_bytes``."""

    def __init__(self, pipeline: Pipeline, folder: Path | None, most_bytes: int) -> None:
        self._pipeline = pipeline
        self._folder = folder
        self._most_bytes = most_bytes
        self._kept: OrderedDict[tuple[Path, int], Lora] = OrderedDict()
        self._lock = threading.Lock()

    def adapters(self, uses: Sequence[LoraUse]) -> Adapters:
        """What is added for ``uses``; files are read, on the thread that asks.

        Raises:
            InvalidRequest: there is no such LoRA, or it is not for this model.
            ModelError: a file cannot be read.
        """
        if not uses:
            return ()
        paths = self._paths()
        found = [_find(use.name, paths) for use in uses]
        with self._lock:
            loras = [self._lora(path) for path in found]
        return tuple(AppliedLora(lora, use.scale, use.for_text_encoders) for lora, use in zip(loras, uses, strict=True))

    def names(self) -> list[str]:
        """Of all that are there, whatever model they are for."""
        return sorted(path.stem for path in self._paths())

    def _paths(self) -> list[Path]:
        """Looked up anew each time: whoever copies a file there may ask for it at once."""
        if self._folder is None:
            return []
        return sorted(path for path in self._folder.rglob(f"*{_SUFFIX}") if path.is_file())

    def _lora(self, path: Path) -> Lora:
        try:
            key = path, path.stat().st_mtime_ns
        except OSError as error:
            raise ModelError(f"the LoRA {path.stem!r} cannot be read: {error.strerror}") from error
        if key not in self._kept:
            self._keep(key, read(path, self._pipeline))
        self._kept.move_to_end(key)
        return self._kept[key]

    def _keep(self, key: tuple[Path, int], lora: Lora) -> None:
        log.info("the LoRA %s is read: %.1f MB", lora.name, lora.nbytes / 1e6)
        self._kept[key] = lora
        while sum(each.nbytes for each in self._kept.values()) > self._most_bytes and len(self._kept) > 1:
            self._kept.popitem(last=False)


def _find(name: str, paths: Iterable[Path]) -> Path:
    """The file called ``name``; another case is no other name, as long as one file alone is meant."""
    named = {path.stem: path for path in paths}
    if name in named:
        return named[name]
    folded = [path for stem, path in named.items() if stem.casefold() == name.casefold()]
    if len(folded) == 1:
        return folded[0]
    if not named:
        raise InvalidRequest(f"there is no LoRA {name!r}: this service has none ([folders] loras)", field="loras")
    near = difflib.get_close_matches(name.casefold(), [stem.casefold() for stem in named], n=1, cutoff=0.5)
    nearest = next((stem for stem in named if near and stem.casefold() == near[0]), None)
    said = f"did you mean {nearest!r}?" if nearest else f"{len(named)} others are, as {sorted(named)[0]!r}"
    raise InvalidRequest(f"there is no LoRA {name!r} here; {said}", field="loras")
