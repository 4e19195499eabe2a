"""Prompts as a pipeline encodes them, kept for the next image: text encoders are slow, and prompts are repeated."""

import functools
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import replace
from typing import Any, Final

import torch
from torch import Tensor

from stablediffusiond.engine.prompts.encoding import Encoded, Reading, encode, watched
from stablediffusiond.engine.rows import map_tensors, tensors_of

#: Device memory for embeddings that are kept: 280 pairs of Stable Diffusion 1.5 in half precision.
_MOST_BYTES: Final = 64 * 1024 * 1024
_AS_WRITTEN: Final = Reading()


class PromptCache:
    """The results of ``encode_prompt`` of one model's pipelines, the latest used last."""

    def __init__(self, most_bytes: int = _MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._kept: OrderedDict[Hashable, Encoded] = OrderedDict()
        self._bytes = 0

    def attach(self, pipeline: Any, reading: Reading = _AS_WRITTEN, adapters: Hashable = ()) -> list[str]:
        """Have this one image's ``pipeline`` look here first. Its embeddings are float32, as all that pipelines see.

        ``adapters`` are what is added to the text encoders for it. What is returned will have those parts of its
        prompts, once they are encoded, that no encoder has seen.
        """
        if (original := getattr(pipeline, "encode_prompt", None)) is None:
            return watched(pipeline)
        unseen: list[str] = []

        @functools.wraps(original)
        def encode_prompt(*args: Any, **kwargs: Any) -> Any:
            key = _key(type(pipeline), args, kwargs)
            encoded = self._kept.get((key, reading, adapters))
            if encoded is None:
                encoded = encode(pipeline, original, reading, args, kwargs)
                encoded = replace(encoded, embeddings=_as_float32(encoded.embeddings))
            if key is not None:
                self._keep((key, reading, adapters), encoded)
            unseen.extend(encoded.unseen)
            return encoded.embeddings

        pipeline.__dict__["encode_prompt"] = encode_prompt
        return unseen

    def clear(self) -> None:
        self._kept.clear()
        self._bytes = 0

    def _keep(self, key: Hashable, encoded: Encoded) -> None:
        if key not in self._kept:  # another image may have had it encoded while this one was suspended
            self._kept[key] = encoded
            self._bytes += _bytes_of(encoded.embeddings)
        self._kept.move_to_end(key)
        while self._bytes > self._most_bytes and len(self._kept) > 1:
            self._bytes -= _bytes_of(self._kept.popitem(last=False)[1].embeddings)


def _key(kind: type, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Hashable | None:
    """What the embeddings depend on; None where that cannot be told, as with pictures and tensors among it."""
    parts = [*args, *(part for item in sorted(kwargs.items()) for part in item)]
    frozen = [tuple(part) if isinstance(part, list) else part for part in parts]
    if not all(_is_plain(part) for part in frozen):
        return None
    return kind, *frozen


def _is_plain(part: object) -> bool:
    if isinstance(part, tuple):
        return all(map(_is_plain, part))
    return part is None or isinstance(part, str | int | float | torch.device | torch.dtype)


def _as_float32(embeddings: Any) -> Any:
    def cast(value: Tensor) -> Tensor:
        return value.float() if value.is_floating_point() else value

    return map_tensors(embeddings, cast)


def _bytes_of(embeddings: Any) -> int:
    return sum(tensor.nbytes for tensor in tensors_of(embeddings))
