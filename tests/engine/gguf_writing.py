"""GGUF files as ComfyUI's and stable-diffusion.cpp's converters write them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import torch
from gguf import GGMLQuantizationType

from tests.engine.original_layout import State


def save_gguf(
    state: State, file: Path, kind_of: Callable[[str, torch.Tensor], GGMLQuantizationType], architecture: str = "flux"
) -> Path:
    """``state``, each tensor quantised as ``kind_of`` says; one that its rows are too short for is made longer first."""
    writer = gguf.GGUFWriter(None, architecture)
    for name, tensor in state.items():
        kind = kind_of(name, tensor)
        data: Any = tensor.detach().float().contiguous().numpy()
        if tensor.ndim > 2 and kind not in {GGMLQuantizationType.F32, GGMLQuantizationType.F16}:
            writer.add_array(f"comfy.gguf.orig_shape.{name}", tuple(int(side) for side in tensor.shape))
            data = data.reshape(-1, 32)
        writer.add_tensor(name, gguf.quants.quantize(data, kind), raw_dtype=kind)
    writer.write_header_to_file(file)
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def usual(name: str, tensor: torch.Tensor) -> GGMLQuantizationType:
    """As ComfyUI's converter has them: what is large in eight bits, the first layer in BF16, what is small whole."""
    if tensor.ndim == 1 or tensor.numel() % 32 or (tensor.shape[-1] % 32 and tensor.ndim == 2):
        return GGMLQuantizationType.F32
    return GGMLQuantizationType.BF16 if name.endswith("img_in.weight") else GGMLQuantizationType.Q8_0
