"""LoRA files with random weights for tiny models, in the layouts in which people have them."""

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

_SPREAD: Final = 0.15
_ATTENTION: Final = r"attn\d?\.(to_[qkv]|to_out\.0)$|(q|k|v|out)_proj$"
Tensors = dict[str, Tensor]


def kohya(
    pipeline: Any, path: Path, seed: int, *, rank: int = 4, convolutions: bool = False, text: bool = True
) -> Path:
    """As kohya's scripts write them; with ``convolutions``, a LoCon."""
    beginnings = {"unet": "lora_unet_"}
    if text:
        two = getattr(pipeline, "text_encoder_2", None) is not None
        beginnings |= {"text_encoder": "lora_te1_", "text_encoder_2": "lora_te2_"} if two else {"text_encoder": "lora_te_"}
    pattern = rf"{_ATTENTION}|conv\d$|proj_in$" if convolutions else _ATTENTION
    tensors: Tensors = {}
    for part, beginning in beginnings.items():
        for layer, down, up in _pairs(getattr(pipeline, part), pattern, seed, rank):
            name = beginning + _original(part, layer).replace(".", "_")
            tensors[f"{name}.lora_down.weight"], tensors[f"{name}.lora_up.weight"] = down, up
            tensors[f"{name}.alpha"] = torch.tensor(rank / 2)
    return _saved(tensors, path, {"ss_base_model_version": "sd_1.5"})


def peft(pipeline: Any, path: Path, seed: int, *, rank: int = 4, parts: tuple[str, ...] = ("unet",)) -> Path:
    """As diffusers' own training scripts write them today."""
    tensors: Tensors = {}
    for part in parts:
        for layer, down, up in _pairs(getattr(pipeline, part), _MODERN, seed, rank):
            tensors[f"{part}.{layer}.lora_A.weight"], tensors[f"{part}.{layer}.lora_B.weight"] = down, up
    return _saved(tensors, path)


def old_diffusers(pipeline: Any, path: Path, seed: int, *, rank: int = 4) -> Path:
    """As diffusers wrote them before it used peft."""
    tensors: Tensors = {}
    for layer, down, up in _pairs(pipeline.unet, r"attn\d\.(to_[qkv]|to_out\.0)$", seed, rank):
        name = re.sub(r"\.(to_[qkv]|to_out)(\.0)?$", r".processor.\1_lora", layer)
        tensors[f"unet.{name}.down.weight"], tensors[f"unet.{name}.up.weight"] = down, up
    return _saved(tensors, path)


def kohya_flux(pipeline: Any, path: Path, seed: int, *, rank: int = 4) -> Path:
    """As kohya's scripts write them for FLUX.1: some layers that are the same in both layouts."""
    tensors: Tensors = {}
    names = {"attn.to_out.0": "img_attn_proj", "attn.to_add_out": "txt_attn_proj", "ff.net.0.proj": "img_mlp_0"}
    pattern = "|".join(re.escape(name) + "$" for name in names)
    for layer, down, up in _pairs(pipeline.transformer, rf"^transformer_blocks\.\d+\.({pattern})", seed, rank):
        _, block, own = layer.split(".", 2)
        name = f"lora_unet_double_blocks_{block}_{names[own]}"
        tensors[f"{name}.lora_down.weight"], tensors[f"{name}.lora_up.weight"] = down * 4, up
        tensors[f"{name}.alpha"] = torch.tensor(rank / 2)
    return _saved(tensors, path)


def changed(path: Path, into: Path, change: Callable[[Tensors], Tensors], notes: Mapping[str, str] | None = None) -> Path:
    """The file at ``path`` with other tensors and notes."""
    from safetensors.torch import load_file

    return _saved(change(load_file(path)), into, notes)


_MODERN: Final = r"attn\d?\.(to_[qkv]|to_out\.0|add_[qkv]_proj|to_add_out)$|(q|k|v|out)_proj$"


def _pairs(network: nn.Module, pattern: str, seed: int, rank: int) -> Iterator[tuple[str, Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    for name, layer in network.named_modules():
        if not re.search(pattern, name) or not isinstance(layer, nn.Linear | nn.Conv2d):
            continue
        out, into, *kernel = layer.weight.shape
        up = (out, rank, *(1 for _ in kernel))
        yield name, *(torch.randn(shape, generator=generator) * _SPREAD for shape in ((rank, into, *kernel), up))


def _original(part: str, layer: str) -> str:
    """transformers has since left out what files still have."""
    return layer if part == "unet" or layer.startswith("text_model.") else f"text_model.{layer}"


def _saved(tensors: Tensors, path: Path, notes: Mapping[str, str] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, dict(notes or {}))
    return path
