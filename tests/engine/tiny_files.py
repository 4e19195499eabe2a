"""Single files in the original layout, of tiny networks whose configs stand in the place of the real ones."""

import json
from collections.abc import Callable
from pathlib import Path
from types import FunctionType
from typing import Any, Final

import diffusers
import safetensors.torch
import torch
import transformers

from stablediffusiond.engine.checkpoints import components
from tests.engine import original_layout
from tests.engine.original_layout import State

#: What is made smaller; what a header is recognised by stays.
_SMALLER: Final[dict[str, dict[str, Any]]] = {
    "unet": {"block_out_channels": [32, 32, 32, 32], "layers_per_block": 1, "sample_size": 8},
    "unet-xl": {
        "block_out_channels": [32, 32, 32], "sample_size": 8, "attention_head_dim": [2, 2, 2],
        "addition_time_embed_dim": 8, "transformer_layers_per_block": [1, 1, 2], "projection_class_embeddings_input_dim": 1328,
    },
    "unet-xl-refiner": {
        "block_out_channels": [32, 32, 32, 32], "sample_size": 8,
        "attention_head_dim": [2, 2, 2, 2], "addition_time_embed_dim": 8, "transformer_layers_per_block": 1,
        "projection_class_embeddings_input_dim": 1320,
    },
    "vae": {"block_out_channels": [16, 16, 16, 16], "layers_per_block": 1, "norm_num_groups": 8, "sample_size": 64},
    "clip": {"num_hidden_layers": 1, "intermediate_size": 32, "vocab_size": 514, "bos_token_id": 512, "eos_token_id": 513},
    "t5": {
        "d_model": 2080, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 4, "vocab_size": 128,
    },
    "transformer-sd3": {
        "sample_size": 8, "num_attention_heads": 2, "attention_head_dim": 8, "joint_attention_dim": 2080,
        "caption_projection_dim": 16, "pos_embed_max_size": 16,
    },
    "transformer-flux": {
        "num_layers": 1, "num_single_layers": 1, "num_attention_heads": 2, "attention_head_dim": 16,
        "joint_attention_dim": 2080, "axes_dims_rope": [4, 4, 8],
    },
}  # fmt: skip
_WRITE: Final[dict[str, Callable[..., State]]] = {
    "UNet2DConditionModel": original_layout.unet,
    "SD3Transformer2DModel": original_layout.transformer_3,
    "FluxTransformer2DModel": original_layout.flux,
}


def write_tiny_configs(folder: Path) -> Path:
    """The package's configs with everything smaller."""
    for original in sorted(components.CONFIGS.glob("*/*.json")):
        kind = original.parent.name
        fitting = [name for name in _SMALLER if kind.startswith(name)]
        smaller = _SMALLER[max(fitting, key=len)] if fitting else {}
        config = json.loads(original.read_text("utf-8"))
        if config.get("attention_head_dim") == [5, 10, 20, 20]:
            smaller = {**smaller, "attention_head_dim": [2, 2, 2, 2]}
        (folder / kind).mkdir(parents=True)
        (folder / kind / original.name).write_text(json.dumps(config | smaller), "utf-8")
    return folder


def diffusers_model(architecture: str, folder: str, **more: object) -> Any:
    """A network with random weights; none is so small that it would not be seen if it were somewhere else."""
    torch.manual_seed(sum(folder.encode()))
    model = getattr(diffusers, architecture).from_config({**components.config_of(folder), **more})
    for parameter in model.parameters():
        if not parameter.abs().sum():
            torch.nn.init.normal_(parameter, std=0.05)
    return model.eval()


def text_model(architecture: str, folder: str) -> Any:
    torch.manual_seed(sum(folder.encode()))
    of_class = getattr(transformers, architecture)
    config = {key: value for key, value in components.config_of(folder).items() if key != "model_type"}
    return of_class(of_class.config_class(**config)).eval()


def network_state(model: Any, prefix: str = "model.diffusion_model.") -> State:
    return _WRITE[type(model).__name__](model, prefix)


def narrow_converter(convert: Any) -> Any:
    """Diffusers' converter of FLUX.1, which knows one width only, for ours."""
    constants = tuple(32 if each == 3072 else each for each in convert.__code__.co_consts)
    return FunctionType(convert.__code__.replace(co_consts=constants), convert.__globals__)


def save(state: State, file: Path, dtype: torch.dtype = torch.float16, notes: dict[str, str] | None = None) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    numbers = {name: each.to(dtype) if each.is_floating_point() else each for name, each in state.items()}
    safetensors.torch.save_file({name: each.contiguous().clone() for name, each in numbers.items()}, file, notes)
    return file


def same_weights(one: Any, other: Any) -> bool:
    """Whether two modules have the same weights, in half precision."""
    mine, others = one.state_dict(), other.state_dict()
    return mine.keys() == others.keys() and all(torch.equal(mine[key].half(), others[key].half()) for key in mine)
