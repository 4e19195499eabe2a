"""A single file of the network that makes the steps, in place of the one in a folder: ``[model] transformer``.

So are files opened of families that no table here knows: what the network is made of, the folder says.
"""

from pathlib import Path
from typing import Any, Final

import torch
from diffusers.loaders.single_file_model import SINGLE_FILE_LOADABLE_CLASSES

from stablediffusiond.engine.checkpoints import components, gguf_file, header
from stablediffusiond.engine.checkpoints.components import Component
from stablediffusiond.engine.checkpoints.families import NETWORK_PREFIXES
from stablediffusiond.engine.checkpoints.gguf_file import GgufWeights
from stablediffusiond.engine.checkpoints.weights import MARKS, Weights
from stablediffusiond.errors import ModelUnavailable

_SETTING: Final = "[model] transformer"


class DenoiserFile:
    """One that fits; nothing of its weights has been read yet.

    Raises:
        ModelUnavailable: it is something else than a network of the class ``architecture`` with this ``config``.
    """

    def __init__(self, path: Path, architecture: str, config: dict[str, Any]) -> None:
        self._architecture, self._config = architecture, config
        self._header = gguf_file.read(path) if path.suffix == gguf_file.SUFFIX else header.read(path)
        self._prefix = next(each for each in NETWORK_PREFIXES if self._header.has(each))
        if architecture not in SINGLE_FILE_LOADABLE_CLASSES:
            raise ModelUnavailable(f"{_SETTING}: diffusers opens no {architecture} from a single file")
        hollow = {name: torch.empty(shape, device="meta") for name, shape in self._shapes().items()}
        try:
            components.fitted(architecture, architecture, config, hollow)
        except ModelUnavailable as error:
            raise ModelUnavailable(f"{_SETTING}: {path.name} is not for this model: {error}") from None

    def open(self, dtype: torch.dtype) -> Component:
        """The network, in the host's memory."""
        weights = (GgufWeights if self._header.quantised else Weights)(self._header, dtype)
        read = weights.network(self._prefix, as_prefix="")
        return components.diffusers_component(self._architecture, self._architecture, self._config, read, dtype)

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        names = [name for name in self._header.below(self._prefix) if not name.endswith(MARKS)]
        return {name[len(self._prefix) :]: self._header.shape(name) for name in names}
