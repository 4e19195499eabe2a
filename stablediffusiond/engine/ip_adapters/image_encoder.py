"""Image encoders beside IP-Adapters: the one that lies nearest, of those that see in numbers of the right size."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

from stablediffusiond.engine.coalescing import hold
from stablediffusiond.engine.ip_adapters.file import FIELD, IpAdapter
from stablediffusiond.errors import InvalidRequest

_CONFIG: Final = "config.json"
_KIND: Final = "clip_vision_model"


@dataclass(frozen=True, eq=False)
class ImageEncoder:
    """One, held; and what brings pictures to its size."""

    network: torch.nn.Module
    processor: Any

    @property
    def nbytes(self) -> int:
        return sum(parameter.nbytes for parameter in self.network.parameters())


def configs_in(folder: Path) -> dict[Path, Mapping[str, object]]:
    """The folders in ``folder`` that hold an encoder of pictures, with what each says of itself."""
    read = {path.parent: _config(path) for path in folder.rglob(_CONFIG)}
    return {path: config for path, config in read.items() if config.get("model_type") == _KIND}


def find(adapter: IpAdapter, configs: Mapping[Path, Mapping[str, object]]) -> Path:
    """The folder, one of ``configs``, of the encoder for ``adapter``.

    Raises:
        InvalidRequest: there is none.
    """
    fitting = [path for path, config in configs.items() if config.get(adapter.looks_at) == adapter.width]
    if not fitting:
        said = f"whose {adapter.looks_at} is {adapter.width} lies beside it ([folders] ip_adapters)"
        name = adapter.path.stem
        raise InvalidRequest(f"the IP-Adapter {name!r} cannot be used: no image encoder {said}", field=FIELD)
    return max(sorted(fitting), key=lambda path: _parts_in_common(path.parent, adapter.path.parent))


def read(path: Path, device: torch.device, dtype: torch.dtype) -> ImageEncoder:
    """The encoder in the folder ``path``, of transformers.

    Raises:
        OSError, ValueError: it cannot be read.
    """
    network: Any = CLIPVisionModelWithProjection.from_pretrained(str(path), dtype=dtype, local_files_only=True)
    network.to(device).eval().requires_grad_(requires_grad=False)
    hold(network)
    size = network.config.image_size
    return ImageEncoder(network, CLIPImageProcessor(size=size, crop_size=size))  # as diffusers makes it


def _config(path: Path) -> Mapping[str, object]:
    """Empty where it cannot be read: it is somebody else's, or half copied."""
    try:
        said = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}


def _parts_in_common(one: Path, other: Path) -> int:
    pairs = zip(one.parts, other.parts, strict=False)
    return next((place for place, (a, b) in enumerate(pairs) if a != b), min(len(one.parts), len(other.parts)))
