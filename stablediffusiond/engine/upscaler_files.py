"""Upscalers: networks in files, of the families that spandrel knows (ESRGAN, Real-ESRGAN, SwinIR, DAT, …).

https://github.com/chaiNNer-org/spandrel
"""

import functools
import importlib
import math
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from stablediffusiond import upscalers
from stablediffusiond.engine.call import describe
from stablediffusiond.engine.coalescing import hold
from stablediffusiond.engine.device_errors import unreadable
from stablediffusiond.engine.named_files import NamedFiles
from stablediffusiond.engine.optional_packages import module_of
from stablediffusiond.engine.timing import seconds_of
from stablediffusiond.errors import InvalidRequest, ModelError, ModelUnavailable

_SUFFIXES: Final = (".safetensors", ".pth", ".pt")
_COLOURS: Final = 3
#: What a tile's side is a multiple of, is at least, and at most.
_TILE_MULTIPLE: Final = 16
#: Of the smallest only 16 pixels a side are kept, a ninth of what is computed; of one of 64 a quarter. So it is for
#: networks that are slow beside the model's steps, so that these do not wait longer than for two of their own.
_SMALLEST_TILE: Final = 48
_TIMED_TILE: Final = 64
_LARGEST_TILE: Final = 512
#: What spandrel imports for two families that are no upscalers. No build of it without CUDA is where pip looks.
_TORCHVISION: Final = "torchvision", "torchvision.transforms", "torchvision.transforms.functional"


class Upscaler:
    """One that was read; its calls are steps, where a run makes them."""

    def __init__(self, name: str, descriptor: Any) -> None:
        """``descriptor`` is spandrel's ImageModelDescriptor."""
        self.name = name
        self._descriptor = descriptor
        self.network: torch.nn.Module = descriptor.model
        self.scale = int(descriptor.scale)
        self.device: torch.device = descriptor.device
        hold(self.network)

    @property
    def bytes(self) -> int:
        return sum(parameter.nbytes for parameter in self.network.parameters())

    def __call__(self, picture: Tensor) -> Tensor:
        """``picture``, (1, 3, H, W) float32 from 0 to 1, ``scale`` times larger."""
        larger: Tensor = self._descriptor(picture)
        return larger

    def tile_pixels(self, longest_seconds: float) -> int:
        """The side of a tile that takes no longer than that, if there is one: such networks take as long as pixels."""
        side = math.sqrt(longest_seconds / self._seconds_of_timed_tile) * _TIMED_TILE
        return min(max(int(side) // _TILE_MULTIPLE * _TILE_MULTIPLE, _SMALLEST_TILE), _LARGEST_TILE)

    @functools.cached_property
    def _seconds_of_timed_tile(self) -> float:
        tile = torch.zeros(1, _COLOURS, _TIMED_TILE, _TIMED_TILE, device=self.device)
        # Once: it is done between the steps of others, who would wait for five.
        return seconds_of(describe(self.network, self, {"picture": tile}), self.device, most_calls=1)


class Upscalers:
    """Those in ``folder``; of those read, the latest used stay on ``device``, up to ``most_bytes``."""

    def __init__(self, folder: Path | None, most_bytes: int, device: torch.device, dtype: torch.dtype) -> None:
        self._files = NamedFiles(
            "upscaler", "upscaler", "[folders] upscalers", folder, suffixes=_SUFFIXES, beside=upscalers.NAMES
        )
        self._kept = self._files.kept(self._read, lambda upscaler: upscaler.bytes, most_bytes)
        self._device = device
        self._dtype = dtype

    def names(self) -> list[str]:
        return self._files.names()

    def read(self, name: str) -> Upscaler:
        """That called ``name``; its file is read, on the thread that asks.

        Raises:
            InvalidRequest: there is no such file, or it is no upscaler.
            ModelError: it cannot be read, or spandrel is not installed.
        """
        [upscaler] = self._kept.get([name])
        return upscaler

    def _read(self, path: Path) -> Upscaler:
        library = spandrel()
        try:
            found = library.MAIN_REGISTRY.load(library.canonicalize_state_dict(_tensors(path)))
        except library.UnsupportedModelError as error:
            raise InvalidRequest(f"{path.stem!r} in the folder of upscalers is none", field="upscaler") from error
        except Exception as error:  # what torch and spandrel raise for broken files, and for more than numbers
            raise unreadable("upscaler", path, error) from error
        colours = getattr(found, "input_channels", None), getattr(found, "output_channels", None)
        if getattr(found, "purpose", None) not in {"SR", "Restoration"} or colours != (_COLOURS, _COLOURS):
            said = f"is a {found.architecture.name}, and no upscaler of pictures in colour"
            raise InvalidRequest(f"{path.stem!r} in the folder of upscalers {said}", field="upscaler")
        supported = {torch.float16: found.supports_half, torch.bfloat16: found.supports_bfloat16}
        dtype = self._dtype if supported.get(self._dtype, False) else torch.float32
        found.model.to(self._device, dtype).eval().requires_grad_(requires_grad=False)
        return Upscaler(path.stem, found)


def _tensors(path: Path) -> Any:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file  # noqa: PLC0415 (only for upscalers)

        return load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)  # reads numbers, and runs nothing


@functools.cache
def spandrel() -> Any:
    """The library.

    Raises:
        ModelError: it is not installed, or cannot be loaded.
    """
    try:
        with _without_torchvision():
            return module_of("spandrel", "an upscaler in a file")
    except ModelUnavailable as error:
        raise ModelError(str(error)) from None


@contextmanager
def _without_torchvision() -> Iterator[None]:
    """Have spandrel find the names that it imports of torchvision, if that is not there."""
    missing = [name for name in _TORCHVISION if name not in sys.modules] if not _has_torchvision() else []
    sys.modules.update({name: types.ModuleType(name) for name in missing})
    if missing:
        vars(sys.modules[_TORCHVISION[-1]]).update(dict.fromkeys(("normalize", "rotate", "InterpolationMode")))
    try:
        yield
    finally:
        for name in missing:
            del sys.modules[name]


def _has_torchvision() -> bool:
    try:
        importlib.import_module(_TORCHVISION[0])
    except (ImportError, OSError, RuntimeError):
        return False
    return True
