"""The LoRAs that one model is asked for."""

from collections.abc import Sequence
from pathlib import Path

from stablediffusiond.engine.loras.by_rows import Adapters, AppliedLora
from stablediffusiond.engine.loras.file import Lora, read
from stablediffusiond.engine.named_files import NamedFiles
from stablediffusiond.engine.networks import Pipeline
from stablediffusiond.messages.loras import LoraUse


class LoraLibrary:
    """Those in ``folder`` for the model of ``pipeline``; of those read, the latest used stay, up to ``most_bytes``."""

    def __init__(self, pipeline: Pipeline, folder: Path | None, most_bytes: int) -> None:
        self._files = NamedFiles("LoRA", "loras", "[folders] loras", folder)
        self._kept = self._files.kept(lambda path: read(path, pipeline), _bytes_of, most_bytes)

    def adapters(self, uses: Sequence[LoraUse]) -> Adapters:
        """What is added for ``uses``; files are read, on the thread that asks.

        Raises:
            InvalidRequest: there is no such LoRA, or it is not for this model.
            ModelError: a file cannot be read.
        """
        loras = self._kept.get([use.name for use in uses])
        return tuple(AppliedLora(lora, use.scale, use.for_text_encoders) for lora, use in zip(loras, uses, strict=True))

    def names(self) -> list[str]:
        """Of all that are there, whatever model they are for."""
        return self._files.names()


def _bytes_of(lora: Lora) -> int:
    return lora.nbytes
