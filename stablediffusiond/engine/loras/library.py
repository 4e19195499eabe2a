"""The LoRAs that one model is asked for."""

import logging
from collections.abc import Sequence
from pathlib import Path

from stablediffusiond.engine.checkpoints import header as headers
from stablediffusiond.engine.loras.by_rows import Adapters, AppliedLora
from stablediffusiond.engine.loras.file import Lora, read
from stablediffusiond.engine.loras.kinds import about
from stablediffusiond.engine.named_files import NamedFiles
from stablediffusiond.engine.networks import Pipeline
from stablediffusiond.errors import ModelAway, ModelUnavailable
from stablediffusiond.messages.loras import LoraUse
from stablediffusiond.messages.status import LoraFacts

log = logging.getLogger(__name__)


class LoraLibrary:
    """Those in ``folder`` for the model of ``pipeline``; of those read, the latest used stay, up to ``most_bytes``.

    In ``built_in`` are those that came with the model.
    """

    def __init__(self, pipeline: Pipeline, folder: Path | None, most_bytes: int, built_in: Path | None = None) -> None:
        self._files = NamedFiles("LoRA", "loras", "[folders] loras", folder, built_in=built_in)
        self._kept = self._files.kept(lambda path: read(path, pipeline), _bytes_of, most_bytes)

    def adapters(self, uses: Sequence[LoraUse]) -> Adapters:
        """What is added for ``uses``; files are read, on the thread that asks.

        Raises:
            InvalidRequest: there is no such LoRA, or it is not for this model.
            ModelError: a file cannot be read.
        """
        loras = self._kept.get([use.name for use in uses])
        return tuple(AppliedLora(lora, use.scale, use.for_text_encoders) for lora, use in zip(loras, uses, strict=True))

    def facts(self) -> list[LoraFacts]:
        """What the files say of themselves, whatever model they are for; one that cannot be read says nothing."""
        return [_facts(name, path) for name, path in sorted(self._files.paths().items())]


def _facts(name: str, path: Path) -> LoraFacts:
    try:
        said = about(headers.read(path))
    except (ModelUnavailable, ModelAway) as error:
        log.warning("the LoRA %s cannot be read: %s", name, error)
        return LoraFacts(name=name)
    return LoraFacts(name=name, family=said.family, triggers=list(said.triggers))


def _bytes_of(lora: Lora) -> int:
    return lora.nbytes
