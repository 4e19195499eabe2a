"""Textual inversion: words of a prompt that stand for vectors which somebody has trained.

A file is such a word, by its name. Neither the tokenizer nor the weights are changed: where the word stands, the prompt
has numbers below zero, for which the layer that turns tokens into vectors looks into a table beside it. (Numbers above
all others would be taken for the end of the prompt by encoders that look for the highest.) Source: Gal et al., An image
is worth one word, https://arxiv.org/abs/2208.01618
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file
from torch import Tensor

from stablediffusiond.engine.checkpoints import header as headers
from stablediffusiond.engine.checkpoints.other_kinds import kind_of
from stablediffusiond.engine.device_errors import unreadable
from stablediffusiond.engine.named_files import NamedFiles
from stablediffusiond.engine.networks import Pipeline
from stablediffusiond.errors import InvalidRequest

_SUFFIXES: Final = (".safetensors", ".pt", ".bin")
#: The names that files for several encoders have.
_OF_ENCODERS: Final = {"text_encoder": "clip_l", "text_encoder_2": "clip_g"}
#: More would not fit into a prompt of CLIP's.
_MOST_VECTORS: Final = 75


@dataclass(frozen=True)
class Embedding:
    """A word, and the numbers that stand for it in the prompts of each encoder."""

    name: str
    ids: Mapping[str, tuple[int, ...]]  #: component name of an encoder -> below zero, one for each vector

    def __hash__(self) -> int:
        return hash((self.name, *self.ids.items()))


class Embeddings:
    """Those in ``folder`` for the CLIP encoders of a model, which are ``encoders`` by their component names."""

    def __init__(self, pipeline: Pipeline, encoders: Mapping[str, Any], folder: Path | None) -> None:
        self._pipeline = pipeline
        self._tables = {name: _Table(encoder) for name, encoder in encoders.items()}
        self._files = NamedFiles("embedding", "prompt", "[folders] embeddings", folder, suffixes=_SUFFIXES)
        self._kept = self._files.kept(self._read, lambda _: 1, 1_000_000)
        #: Whether prompts have to be looked through.
        self.some = folder is not None and bool(encoders)

    def names(self) -> list[str]:
        return self._files.names()

    def in_prompts(self, *prompts: str) -> tuple[Embedding, ...]:
        """Those whose names stand in ``prompts``, as words, in whatever case; files are read.

        Raises:
            InvalidRequest: one is for another family of models.
            ModelError: a file cannot be read.
        """
        if not self.some:
            return ()
        text = "\n".join(prompts)
        return self._kept.read([path for name, path in self._files.paths().items() if word(name).search(text)])

    def _read(self, path: Path) -> Embedding:
        vectors = _vectors(path)
        ids = {}
        for encoder, table in self._tables.items():
            named = vectors.get(_OF_ENCODERS.get(encoder, ""))
            fitting = [each for each in vectors.values() if each.shape[1] == table.width]
            if named is None and not fitting:
                raise InvalidRequest(self._mismatch(path.stem, vectors.values()), field="prompt")
            ids[encoder] = table.add(fitting[0] if named is None else named)
        return Embedding(path.stem, ids)

    def _mismatch(self, name: str, vectors: Iterable[Tensor]) -> str:
        widths = ", ".join(str(each.shape[1]) for each in vectors)
        own = ", ".join(str(table.width) for table in self._tables.values())
        return (
            f"the embedding {name!r} has vectors of width {widths}, for another family of models: this one, of "
            f"{type(self._pipeline).__name__}, reads {own}"
        )


class _Table:
    """Vectors beside those of an encoder's tokens."""

    def __init__(self, encoder: Any) -> None:
        self._layer = encoder.get_input_embeddings()
        self._forward = self._layer.forward
        self._vectors: Tensor | None = None
        self.width = int(self._layer.weight.shape[1])

    def add(self, vectors: Tensor) -> tuple[int, ...]:
        """The numbers that stand for ``vectors``, (some, width), from now on."""
        weight = self._layer.weight
        added = vectors.to(weight.device, weight.dtype)
        before = 0 if self._vectors is None else len(self._vectors)
        self._vectors = added if self._vectors is None else torch.cat([self._vectors, added])
        self._layer.forward = self._look_up
        return tuple(-(before + place + 1) for place in range(len(added)))

    def _look_up(self, ids: Tensor) -> Tensor:
        known: Tensor = self._forward(ids.clamp(min=0))
        if self._vectors is None:
            return known
        own = self._vectors[(-1 - ids).clamp(min=0)]
        return torch.where((ids < 0).unsqueeze(-1), own, known)


def word(name: str) -> re.Pattern[str]:
    """``name`` where it stands by itself."""
    return re.compile(rf"(?<!\w){re.escape(name)}(?!\w)", re.IGNORECASE)


def _vectors(path: Path) -> dict[str, Tensor]:
    """What the file at ``path`` has by its names there, each (vectors, width): one, or one for each encoder."""
    try:
        found = _tensors(path)
    except Exception as error:  # what both libraries raise for broken files, and for more than numbers
        raise unreadable("embedding", path, error) from error
    vectors = {name: each[None] if each.ndim == 1 else each for name, each in found.items() if each.ndim in {1, 2}}
    if not vectors or any(len(each) > _MOST_VECTORS for each in vectors.values()):
        kind = kind_of(headers.read(path)) if path.suffix == ".safetensors" else "holds no vectors"
        raise InvalidRequest(f"{path.stem!r} in the folder of embeddings {kind}", field="prompt")
    return vectors


def _tensors(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        return load_file(path)
    found: Any = torch.load(path, map_location="cpu", weights_only=True)  # reads numbers, and runs nothing
    inner = found.get("string_to_param", found) if isinstance(found, Mapping) else {}
    return {str(name): each.detach() for name, each in inner.items() if isinstance(each, Tensor)}
