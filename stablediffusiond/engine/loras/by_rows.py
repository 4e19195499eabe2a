"""LoRAs added to those rows of a call that ask for them: each picture its own, in one call of the network.

Nothing is written into the network, and no layer of it replaced by another: while a call lasts, the layers that are
concerned answer through ``_Adapted``. So a file is there as soon as it is read, and is forgotten with its last use.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor, nn

from stablediffusiond.engine.loras.file import Lora, Pair


@dataclass(frozen=True)
class AppliedLora:
    """A LoRA, and how much of it is added."""

    lora: Lora
    scale: float
    text_encoder_scale: float

    def scale_in(self, network: nn.Module) -> float:
        return self.text_encoder_scale if network in self.lora.text_encoders else self.scale


#: Those of one picture; equal ones add the same.
Adapters = tuple[AppliedLora, ...]


class _Span(NamedTuple):
    """Rows behind each other to which the same is added."""

    pair: Pair
    first: int
    end: int
    scale: float


class _Adapted:
    """Calls ``layer``, which had ``forward``, and adds to ``rows`` rows what ``spans`` say."""

    def __init__(self, layer: nn.Module, spans: Sequence[_Span], rows: int) -> None:
        self._layer = layer
        self._forward = layer.forward
        self._spans = spans
        self._rows = rows

    def __call__(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        answer: Tensor = self._forward(x, *args, **kwargs)
        inner = len(x) // self._rows  # a layer may see several of its rows for each of the network's
        if inner * self._rows != len(x):
            raise ValueError(f"a layer with {len(x)} rows in a call with {self._rows} takes no LoRAs by rows")
        for pair, first, end, scale in self._spans:
            place = slice(first * inner, end * inner)
            answer[place].add_(pair(self._layer, x[place]).to(answer.dtype), alpha=scale)
        return answer


@contextlib.contextmanager
def added(network: nn.Module, rows: Sequence[Adapters]) -> Iterator[None]:
    """While it lasts, calls of ``network`` with as many rows have the LoRAs of each row added."""
    adapted = _spans(network, rows)
    before = {layer: layer.__dict__.get("forward") for layer in adapted}  # hooks of diffusers stand there
    try:
        for layer, spans in adapted.items():
            layer.__dict__["forward"] = _Adapted(layer, spans, len(rows))
        yield
    finally:
        for layer, forward in before.items():
            if forward is None:
                layer.__dict__.pop("forward", None)
            else:
                layer.__dict__["forward"] = forward


def _spans(network: nn.Module, rows: Sequence[Adapters]) -> dict[nn.Module, list[_Span]]:
    adapted: dict[nn.Module, list[_Span]] = {}
    for lora in dict.fromkeys(applied.lora for row in rows for applied in row):
        layers = lora.networks.get(network)
        if not layers:
            continue
        places = _runs([sum(each.scale_in(network) for each in row if each.lora is lora) for row in rows])
        for layer, pair in layers.items():
            adapted.setdefault(layer, []).extend(_Span(pair, *place) for place in places)
    return adapted


def _runs(scales: Sequence[float]) -> list[tuple[int, int, float]]:
    """Where rows behind each other have the same scale, other than 0: first, end, scale."""
    found: list[tuple[int, int, float]] = []
    for place, scale in enumerate(scales):
        if found and found[-1][1] == place and found[-1][2] == scale:
            found[-1] = found[-1][0], place + 1, scale
        elif scale:
            found.append((place, place + 1, scale))
    return found
