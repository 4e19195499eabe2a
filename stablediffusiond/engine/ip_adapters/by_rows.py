"""Pictures that those rows of a call look at that ask for it: each its own, in one call of the network.

While a call lasts, the cross attentions of the network answer through diffusers' attention of IP-Adapters, with the
matrices of those that the call has, one beside the other. How much each counts for a row is a mask, the same all over
the picture; it is nought for rows that do not ask for it, which so get exactly what they get without.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Final

import torch
from diffusers.models.attention_processor import IPAdapterAttnProcessor2_0
from torch import Tensor, nn

from stablediffusiond.engine.ip_adapters.file import IpAdapter

_BESIDE: Final = "added_cond_kwargs"
_EMBEDS: Final = "image_embeds"


#: In place of an object of its class it is given one that has the layers of several.
_attend: Final[Any] = IPAdapterAttnProcessor2_0.__call__


@dataclass(frozen=True, eq=False)
class AppliedIpAdapter:
    """One, and how much it counts for a picture."""

    adapter: IpAdapter
    scale: float


@dataclass(frozen=True, eq=False)
class ImagePrompt:
    """What one row sees of one picture."""

    adapter: IpAdapter
    scale: float
    tokens: Tensor  #: (tokens, width)


#: Those of one row.
ImagePrompts = tuple[ImagePrompt, ...]


def taken_out(
    arguments: Mapping[str, Any], applied: Sequence[AppliedIpAdapter]
) -> tuple[dict[str, Any], list[ImagePrompts]]:
    """A pipeline's ``arguments`` for its network without what ``applied`` see; and that, for each row."""
    if not applied:  # some networks look at a picture by themselves, which has the same name
        return dict(arguments), []
    beside = dict(arguments.get(_BESIDE) or {})
    seen: Sequence[Tensor] = beside.pop(_EMBEDS, [])  # of each IP-Adapter (rows, 1, tokens, width)
    rest = {name: value for name, value in arguments.items() if name != _BESIDE} | ({_BESIDE: beside} if beside else {})
    rows = len(seen[0]) if seen else 0
    prompts = [
        tuple(ImagePrompt(each.adapter, each.scale, of_all[row, 0]) for each, of_all in zip(applied, seen, strict=True))
        for row in range(rows)
    ]
    return rest, prompts


@contextlib.contextmanager
def looked_at(network: nn.Module, rows: Sequence[ImagePrompts]) -> Iterator[None]:
    """While it lasts, each row of calls of ``network`` looks at its own pictures."""
    adapters = dict.fromkeys(prompt.adapter for row in rows for prompt in row)
    shown = [part for adapter in adapters for part in _parts(adapter, rows, network)]
    layers = list(shown[0].adapter.layers) if shown else []
    before = {layer: layer.__dict__.get("processor") for layer in layers}
    try:
        for layer in layers:
            layer.__dict__["processor"] = _Looking(layer, shown)
        yield
    finally:
        for layer, processor in before.items():
            if processor is None:  # it is a module of its own, which stands elsewhere
                layer.__dict__.pop("processor", None)
            else:
                layer.__dict__["processor"] = processor


@dataclass(frozen=True, eq=False)
class _Shown:
    """One picture at most for each row, through one IP-Adapter."""

    adapter: IpAdapter
    tokens: Tensor  #: (rows, 1, tokens, width)
    scales: Tensor  #: (rows, 1, 1, 1)


def _parts(adapter: IpAdapter, rows: Sequence[ImagePrompts], network: Any) -> list[_Shown]:
    """As many as one row has pictures for ``adapter``."""
    of_rows = [[prompt for prompt in row if prompt.adapter is adapter] for row in rows]
    some = next(prompts[0] for prompts in of_rows if prompts)
    nothing = ImagePrompt(adapter, 0.0, torch.zeros_like(some.tokens))
    parts = []
    for place in range(max(map(len, of_rows))):
        prompts = [row[place] if place < len(row) else nothing for row in of_rows]
        tokens = torch.stack([prompt.tokens for prompt in prompts]).unsqueeze(1).to(network.dtype)
        scales = torch.tensor([prompt.scale for prompt in prompts], device=tokens.device).view(-1, 1, 1, 1)
        parts.append(_Shown(adapter, tokens, scales))
    return parts


class _Looking:
    """In the place of the processor of ``layer``, a cross attention."""

    def __init__(self, layer: nn.Module, shown: Sequence[_Shown]) -> None:
        processors = [part.adapter.layers[layer] for part in shown]
        #: What diffusers' function looks for on its own object.
        self._own: Any = SimpleNamespace(
            scale=[1.0] * len(shown),
            to_k_ip=[each.to_k_ip[0] for each in processors],
            to_v_ip=[each.to_v_ip[0] for each in processors],
        )
        self._shown = shown

    def __call__(
        self,
        attention: nn.Module,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        places = hidden_states.shape[1] if hidden_states.ndim == 3 else hidden_states[0, 0].numel()
        # In one line as long as there are places, a mask is of the same size in every layer, and not interpolated.
        masks = [part.scales.expand(-1, 1, 1, places) for part in self._shown]
        seen = [part.tokens for part in self._shown]
        made: Tensor = _attend(
            self._own, attention, hidden_states, (encoder_hidden_states, seen), attention_mask, temb,
            ip_adapter_masks=masks,
        )  # fmt: skip
        return made
