"""Autoencoders that work in overlapping tiles where a picture is large, or where memory ends.

In tiles they need less memory; they are slower, and what a tile does not see of the picture may change its colours.
https://huggingface.co/docs/diffusers/main/en/optimization/memory#vae-tiling
"""

import contextlib
import functools
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import torch
from torch import Tensor

from stablediffusiond.engine.device_errors import is_out_of_memory
from stablediffusiond.engine.networks import Pipeline, is_autoencoder, modules_of
from stablediffusiond.settings import VaeTiling

log = logging.getLogger(__name__)

#: Larger pictures are made in tiles before memory ends.
_WHOLE_PIXELS: Final = 1536 * 1536
#: A side of the tiles where they are asked for.
_ASKED_PIXELS: Final = 512
#: Tiles of the size that an autoencoder has them in, which is often that of its model's pictures, and of parts of it.
_PARTS: Final = (1, 2, 4)
_WHOLE: Final = 0


def tile(pipeline: Pipeline, mode: VaeTiling) -> None:
    """Have the autoencoders of ``pipeline`` work as ``mode`` says."""
    for module in modules_of(pipeline):
        tile_one(module, mode, pipeline)


def tile_one(module: torch.nn.Module, mode: VaeTiling, pipeline: Pipeline) -> None:
    """Have ``module``, if it is an autoencoder for ``pipeline``, work as ``mode`` says."""
    if mode != "off" and is_tiled(module):
        tiles = _Tiles(module, asked=mode == "on")
        tiles.replace("decode", int(getattr(pipeline, "vae_scale_factor", 8)))
        tiles.replace("encode", 1)


def is_tiled(module: torch.nn.Module) -> bool:
    """Whether ``module`` is an autoencoder that knows tiles."""
    return is_autoencoder(module) and hasattr(module, "use_tiling")


class _Tiles:
    """Calls of ``module``, in the largest tiles that there is memory for."""

    def __init__(self, module: torch.nn.Module, *, asked: bool) -> None:
        self._module: Any = module
        self._asked = asked
        self._sizes = {name: value for name, value in vars(module).items() if _is_size(name, value)}
        #: Part -> the pixels of the smallest picture for which its tiles were too large.
        self._too_large: dict[int, int] = {}

    def replace(self, method: str, scale: int) -> None:
        """Make the calls of ``method``, each number in whose tensor stands for ``scale`` x ``scale`` pixels."""
        made_by = getattr(self._module, method)

        @functools.wraps(made_by)
        def call(*args: Any, **kwargs: Any) -> Any:
            given = next(value for value in (*args, *kwargs.values()) if isinstance(value, Tensor))
            height, width = (int(side) * scale for side in given.shape[-2:])
            make = functools.partial(made_by, *args, **kwargs)
            *larger, smallest = self._parts(height, width)
            for part in larger:
                for sliced in (False, True)[: len(given)]:  # pictures that share a call, and then each by itself
                    with contextlib.suppress(_NoRoom):
                        return self._make(part, make, sliced=sliced)
                    torch.cuda.empty_cache()  # out here nothing holds the tensors of what has failed any more
                log.info(
                    "the VAE has no room for %d pixels at once; such pictures come in smaller tiles", height * width
                )
                self._too_large[part] = min(height * width, self._too_large.get(part, height * width))
            with self._in_tiles(smallest, sliced=len(given) > 1):
                return make()

        setattr(self._module, method, call)

    def _parts(self, height: int, width: int) -> Sequence[int]:
        """What to try for a picture, the largest tiles first; what fits into one is tried whole."""
        pixels = height * width
        parts = [part for part in _PARTS if not self._asked or self._side(part) <= _ASKED_PIXELS] or _PARTS[-1:]
        smaller = [part for part in parts if self._side(part) < max(height, width)]
        whole = len(smaller) < len(parts) or (not self._asked and pixels <= _WHOLE_PIXELS)
        every = [*([_WHOLE] if whole else []), *smaller]
        return [part for part in every if pixels < self._too_large.get(part, pixels + 1)] or every[-1:]

    def _side(self, part: int) -> int:
        return max((size for name, size in self._sizes.items() if "_sample_min_" in name), default=1) // part

    def _make(self, part: int, make: Callable[[], Any], *, sliced: bool) -> Any:
        try:
            with self._in_tiles(part, sliced=sliced):
                return make()
        except (RuntimeError, MemoryError) as error:
            if is_out_of_memory(error):
                raise _NoRoom from None
            raise

    @contextlib.contextmanager
    def _in_tiles(self, part: int, *, sliced: bool) -> Iterator[None]:
        self._module.use_tiling, self._module.use_slicing = part != _WHOLE, sliced
        for name, size in self._sizes.items():
            setattr(self._module, name, size // (part or 1))
        try:
            yield
        finally:
            self._module.use_tiling = self._module.use_slicing = False
            for name, size in self._sizes.items():
                setattr(self._module, name, size)


class _NoRoom(Exception):
    """Raised where memory ends."""


def _is_size(name: str, value: object) -> bool:
    return name.startswith(("tile_sample_", "tile_latent_")) and isinstance(value, int)
