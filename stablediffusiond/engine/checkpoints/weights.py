"""The weights of a single file, a part at a time: read when they are asked for, as numbers that torch computes with."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

import torch
from safetensors import safe_open
from torch import Tensor

from stablediffusiond.engine.checkpoints.header import Header, TensorFacts
from stablediffusiond.errors import ModelUnavailable

_FLOAT8: Final = (torch.float8_e4m3fn, torch.float8_e5m2)
#: Beside a weight in fp8: what it has to be multiplied by.
_SCALES: Final = ("scale_weight", "weight_scale")
#: Of use to programs that compute in fp8.
MARKS: Final = (*_SCALES, "scale_input", "input_scale", "comfy_quant", "scaled_fp8")
_NAMES: Final = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.float64: "F64"}
_NETWORK: Final = "model."
_AVERAGED: Final = "model_ema."


class Weights:
    """The tensors of the file that ``header`` is of; what is in fp8 comes in ``dtype``."""

    def __init__(self, header: Header, dtype: torch.dtype, unpickled: Mapping[str, Tensor] | None = None) -> None:
        """``unpickled`` are the tensors themselves, where the file is a pickle."""
        self._header = header
        self._dtype = dtype
        self._unpickled = unpickled

    def below(self, prefix: str, *, as_prefix: str | None = None) -> dict[str, Tensor]:
        """All tensors whose names begin with ``prefix``, which is written ``as_prefix``."""
        names = {name: name for name in self._header.below(prefix)}
        return self._read(names, prefix, prefix if as_prefix is None else as_prefix)

    def network(self, prefix: str, *, as_prefix: str) -> dict[str, Tensor]:
        """Those of the network; where its training kept an average of them, that: it is what is meant for drawing."""
        names = {name: name for name in self._header.below(prefix)}
        averaged = {name: _AVERAGED + name.removeprefix(_NETWORK).replace(".", "") for name in names}
        if prefix and all(each in self._header for each in averaged.values()):
            names = averaged
        return self._read(names, prefix, as_prefix)

    def _read(self, names: dict[str, str], prefix: str, as_prefix: str) -> dict[str, Tensor]:
        wanted = {name: stored for name, stored in names.items() if not name.endswith(MARKS)}
        with self._reader() as tensor:
            return {
                as_prefix + name[len(prefix) :]: self._number(tensor(stored), self._scale(tensor, stored))
                for name, stored in wanted.items()
            }

    @contextlib.contextmanager
    def _reader(self) -> Iterator[Callable[[str], Tensor]]:
        if self._unpickled is not None:
            yield self._unpickled.__getitem__
            return
        with safe_open(self._header.path, "pt") as file:
            yield file.get_tensor

    def _number(self, tensor: Tensor, scale: Tensor | None) -> Tensor:
        if scale is not None:
            factor = scale.to(torch.float32).reshape(-1, *[1] * (tensor.ndim - 1))  # one, or one for each row
            return (tensor.to(torch.float32) * factor).to(self._dtype)
        return tensor.to(self._dtype) if tensor.dtype in _FLOAT8 else tensor

    def _scale(self, tensor: Callable[[str], Tensor], name: str) -> Tensor | None:
        if not name.endswith(".weight"):
            return None
        beside = (name.removesuffix("weight") + each for each in _SCALES)
        found = next((each for each in beside if each in self._header), None)
        return None if found is None else tensor(found)


def unpickle(path: Path) -> tuple[Header, dict[str, Tensor]]:
    """The tensors of a pickle, which may run code: only for those who allow it.

    Raises:
        ModelUnavailable: it holds something else.
    """
    found = torch.load(path, map_location="cpu", weights_only=False)
    while isinstance(found, dict) and "state_dict" in found:
        found = found["state_dict"]
    if not isinstance(found, dict):
        raise ModelUnavailable(f"{path.name} holds no weights, but a {type(found).__name__}")
    tensors = {name: each for name, each in found.items() if isinstance(each, Tensor)}
    facts = {name: TensorFacts(_NAMES.get(each.dtype, "?"), tuple(each.shape)) for name, each in tensors.items()}
    return Header(path, facts), tensors


def some_of(names: Iterable[str]) -> str:
    """A few names for an error, and how many more there are."""
    every = sorted(names)
    more = f" and {len(every) - 2} more" if len(every) > 2 else ""
    return ", ".join(every[:2]) + more
