"""Prompts as the UNet reads them; those that come again are not encoded again."""

from collections import OrderedDict
from typing import Final

import torch
from torch import Tensor

from stablediffusiond.engine.models import Pipeline

#: Device memory for embeddings that are kept: 280 pairs of Stable Diffusion 1.5 in half precision.
_MOST_BYTES: Final = 64 * 1024 * 1024


class Prompts:
    """Encodes with the text encoder of ``pipeline``; keeps what was used last."""

    def __init__(self, pipeline: Pipeline, most_bytes: int = _MOST_BYTES) -> None:
        self._pipeline = pipeline
        self._most_bytes = most_bytes
        self._kept: OrderedDict[tuple[str, str | None], Tensor] = OrderedDict()
        self._bytes = 0

    def encode(self, prompt: str, negative: str | None) -> Tensor:
        """(1, tokens, width); under guidance, with a ``negative`` prompt if only "", (2, tokens, width), that first."""
        key = (prompt, negative)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        embeddings = self._encode(prompt, negative)
        self._kept[key] = embeddings
        self._bytes += embeddings.nbytes
        while self._bytes > self._most_bytes:
            self._bytes -= self._kept.popitem(last=False)[1].nbytes
        return embeddings

    def clear(self) -> None:
        self._kept.clear()
        self._bytes = 0

    def _encode(self, prompt: str, negative: str | None) -> Tensor:
        guided = negative is not None
        wanted, unwanted = self._pipeline.encode_prompt(prompt, self._pipeline.device, 1, guided, negative)
        embeddings: Tensor = torch.cat([unwanted, wanted]) if guided else wanted
        return embeddings
