"""Calls of a network that is another one while they last: with LoRAs or pictures for some rows, or without edges."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import nn

from stablediffusiond.engine.coalescing import hold
from stablediffusiond.engine.ip_adapters.by_rows import ImagePrompts, looked_at
from stablediffusiond.engine.loras.by_rows import Adapters, added


class Altered:
    """Calls a method of ``network``."""

    def __init__(self, network: nn.Module, method: str) -> None:
        self._network = network
        self._function: Callable[..., Any] = getattr(network, method)

    def __call__(
        self,
        *,
        adapters: Sequence[Adapters] = (),
        image_prompts: Sequence[ImagePrompts] = (),
        wraps_around: bool = False,
        **arguments: Any,
    ) -> Any:
        """``adapters`` and ``image_prompts`` are those of each row; ``wraps_around`` is for pictures that tile."""
        with altered(self._network, adapters, image_prompts, wraps_around=wraps_around):
            return self._function(**arguments)


@contextlib.contextmanager
def altered(
    network: nn.Module, adapters: Sequence[Adapters], image_prompts: Sequence[ImagePrompts], *, wraps_around: bool
) -> Iterator[None]:
    """While it lasts, ``network`` adds the LoRAs of each row, each row looks at its pictures through IP-Adapters, and
    convolutions see the other edge behind each.
    """
    with (
        added(network, adapters),
        looked_at(network, image_prompts),
        _wrapping_around(network) if wraps_around else contextlib.nullcontext(),
    ):
        yield


def hold_autoencoder(module: nn.Module) -> None:
    """Suspend pipelines where they have ``module`` decode; what is encoded waits for nobody."""
    hold(module, "decode", Altered(module, "decode"), altered=True)
    hold(module, "encode", Altered(module, "encode"), altered=True, suspend=False)


def has_edges(network: nn.Module) -> bool:
    """Whether it sees edges by its convolutions, and not by numbers for each place."""
    return bool(_padded(network)) and getattr(network, "pos_embed", None) is None


@contextlib.contextmanager
def _wrapping_around(network: nn.Module) -> Iterator[None]:
    padded = _padded(network)
    try:
        for layer in padded:
            layer.padding_mode = "circular"
        yield
    finally:
        for layer in padded:
            layer.padding_mode = "zeros"


def _padded(network: nn.Module) -> list[nn.Conv2d]:
    """Those that see noughts behind the edge; what sees something else there by itself is left as it is."""
    convolutions = (each for each in network.modules() if isinstance(each, nn.Conv2d))
    return [each for each in convolutions if each.padding != (0, 0) and each.padding_mode == "zeros"]
