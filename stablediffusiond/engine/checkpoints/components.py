"""Weights in the layout of their original programs made into components of diffusers and transformers.

The conversion is that of the libraries; what is added is that a weight that is missing is an error, and named.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import diffusers
import torch
import transformers
from accelerate import init_empty_weights  # type: ignore[import-untyped]
from diffusers.loaders.single_file_model import SINGLE_FILE_LOADABLE_CLASSES
from diffusers.loaders.single_file_utils import convert_open_clip_checkpoint
from torch import Tensor

from stablediffusiond.engine.checkpoints import gguf_file
from stablediffusiond.engine.checkpoints.weights import some_of
from stablediffusiond.errors import ModelUnavailable

CONFIGS: Final = Path(__file__).parent / "configs"
#: A tensor that only OpenCLIP's layout has.
_OPEN_CLIP: Final = "positional_embedding"
_WRAPPER: Final = "text_model."
#: The same tensor as ``shared.weight``.
_TIED: Final = "encoder.embed_tokens.weight"

Component = Any
Config = dict[str, Any]


def config_of(folder: str) -> Config:
    """The config in ``configs/``, without what names its class."""
    file = next((CONFIGS / folder).glob("*.json"))
    read: Config = json.loads(file.read_text("utf-8"))
    return read


def converted(architecture: str, config: Config, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """``weights`` under the names of diffusers, by its own converter, which may take them out of what it is given."""
    converters: Any = SINGLE_FILE_LOADABLE_CLASSES  # its own types do not say that a value can be called
    made: dict[str, Tensor] = converters[architecture]["checkpoint_mapping_fn"](config=config, checkpoint=weights)
    return made


def diffusers_component(
    name: str, architecture: str, config: Config, weights: dict[str, Tensor], dtype: torch.dtype
) -> Component:
    """A network or a VAE. ``name`` is for errors.

    Raises:
        ModelUnavailable: weights are missing, or of other shapes than ``config`` makes.
    """
    component, weights = fitted(name, architecture, config, weights)
    if any(map(gguf_file.is_quantised, weights.values())):
        return gguf_file.component(architecture, config, component, weights, dtype)
    component.load_state_dict({key: each.to(dtype) for key, each in weights.items()}, assign=True)
    component.requires_grad_(False)  # noqa: FBT003
    return component.eval()


def fitted(
    name: str, architecture: str, config: Config, weights: dict[str, Tensor]
) -> tuple[Component, dict[str, Tensor]]:
    """An empty network or VAE, and its ``weights`` under the names of diffusers.

    Raises:
        ModelUnavailable: weights are missing, or of other shapes than ``config`` makes.
    """
    with init_empty_weights():
        component = getattr(diffusers, architecture).from_config(config)
    wanted = component.state_dict()
    if not wanted.keys() <= weights.keys():
        try:
            weights = converted(architecture, config, weights)
        except (KeyError, IndexError) as error:
            raise ModelUnavailable(f"its {name} lacks weights: {error}") from None
    _compare(name, wanted, weights)
    return component, {key: weights[key] for key in wanted}


def text_encoder(
    name: str,
    architecture: str,
    config: Config,
    weights: dict[str, Tensor],
    dtype: torch.dtype,
    *,
    unprojected: bool = False,
) -> Component:
    """A text encoder out of weights whose names have lost what stands before them in the file.

    ``unprojected``: its model wants what comes before the last projection.

    Raises:
        ModelUnavailable: weights are missing, or of other shapes than ``config`` makes.
    """
    of_class = getattr(transformers, architecture)
    typed = of_class.config_class(**{key: value for key, value in config.items() if key != "model_type"})
    if _OPEN_CLIP in weights:
        weights = convert_open_clip_checkpoint(SimpleNamespace(config=typed), weights, prefix="")
    if unprojected:
        weights["text_projection.weight"] = torch.eye(typed.projection_dim)
    wanted = _shapes(of_class, typed)
    renamed = {key: _lookup(weights, key) for key in wanted}
    _compare(name, wanted, {key: each for key, each in renamed.items() if each is not None})
    component = of_class.from_pretrained(None, config=typed, state_dict=renamed, dtype=dtype)
    component.requires_grad_(False)  # noqa: FBT003
    return component.eval()


def _shapes(of_class: Any, config: Any) -> dict[str, Tensor]:
    with init_empty_weights():
        found: dict[str, Tensor] = of_class(config).state_dict()
    return {key: each for key, each in found.items() if not key.endswith(".position_ids") and key != _TIED}


def _lookup(weights: Mapping[str, Tensor], key: str) -> Tensor | None:
    """Versions of transformers, and of files, name a layer with and without ``text_model.``."""
    bare = key.removeprefix(_WRAPPER)
    return next((weights[each] for each in (key, bare, _WRAPPER + bare) if each in weights), None)


def _compare(name: str, wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> None:
    if missing := wanted.keys() - given.keys():
        raise ModelUnavailable(f"its {name} lacks weights: {some_of(missing)}")
    other = [key for key, each in wanted.items() if not _has_shape(given[key], each.shape)]
    if other:
        key = min(other)
        shapes = f"{gguf_file.shape_of(given[key])} and not {tuple(wanted[key].shape)}"
        raise ModelUnavailable(f"its {name} is of another shape than it should be: {some_of(other)} ({shapes})")


def _has_shape(tensor: Tensor, shape: torch.Size) -> bool:
    """Quantised tensors of other than two dimensions may have been given two."""
    if gguf_file.is_quantised(tensor) and len(shape) != 2:
        return math.prod(gguf_file.shape_of(tensor)) == shape.numel()
    return gguf_file.shape_of(tensor) == tuple(shape)
