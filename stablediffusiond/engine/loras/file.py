"""A LoRA file as pairs of matrices, each for one layer of a model.

Which layer a tensor is for is diffusers' affair: its loaders know the names of kohya's scripts, LoCon, peft and their
own. Source: Hu et al., LoRA, https://arxiv.org/abs/2106.09685
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import safetensors
import torch
from diffusers.utils.state_dict_utils import (
    convert_state_dict_to_diffusers,
    convert_state_dict_to_peft,
    convert_unet_state_dict_to_peft,
)
from safetensors.torch import load_file
from torch import Tensor, nn

from stablediffusiond.engine.checkpoints import header as headers
from stablediffusiond.engine.device_errors import first_line, unreadable
from stablediffusiond.engine.loras.kinds import About, about, check
from stablediffusiond.engine.memory_saving import device_of
from stablediffusiond.engine.networks import Pipeline
from stablediffusiond.errors import InvalidRequest, ModelAway, ModelUnavailable

_DOWN: Final = ".lora_A.weight"
_UP: Final = ".lora_B.weight"
_DOWN_SPELLINGS: Final = (".lora_down.weight", _DOWN, ".lora.down.weight", "_lora.down.weight")
#: Where diffusers notes with which numbers peft trained.
_PEFT_NOTES: Final = "lora_adapter_metadata"


@dataclass(frozen=True, eq=False)
class Pair:
    """What is added to the answer of a layer: ``up(down(x))``."""

    down: Tensor  #: (rank, in) of a linear layer, (rank, in, height, width) of a convolution
    up: Tensor  #: (out, rank), or (out, rank, 1, 1)

    def __call__(self, layer: nn.Module, x: Tensor) -> Tensor:
        """For rows ``x`` of the layer's input."""
        down, up = self.down.to(x.dtype), self.up.to(x.dtype)
        if isinstance(layer, nn.Conv2d):
            narrow = nn.functional.conv2d(x, down, None, layer.stride, layer.padding, layer.dilation, layer.groups)
            return nn.functional.conv2d(narrow, up)
        return nn.functional.linear(nn.functional.linear(x, down), up)

    def fits(self, layer: nn.Module) -> bool:
        if isinstance(layer, nn.Conv2d):
            read, written = (layer.in_channels // layer.groups, *layer.kernel_size), layer.out_channels
            return self.down.shape[1:] == read and self.up.shape[0] == written
        if isinstance(layer, nn.Linear):
            return self.down.shape[1:] == (layer.in_features,) and self.up.shape[0] == layer.out_features
        return False


@dataclass(frozen=True, eq=False)
class Lora:
    """One file, read for one model."""

    name: str
    networks: Mapping[nn.Module, Mapping[nn.Module, Pair]]  #: network -> layer of it -> what is added to it
    text_encoders: frozenset[nn.Module] = field(default_factory=frozenset)  #: those of the networks that read prompts

    @property
    def nbytes(self) -> int:
        pairs = (pair for layers in self.networks.values() for pair in layers.values())
        return sum(pair.down.nbytes + pair.up.nbytes for pair in pairs)


def read(path: Path, pipeline: Pipeline) -> Lora:
    """The LoRA in ``path`` for the model of ``pipeline``, on its device and in its dtype.

    Raises:
        InvalidRequest: it is of a kind that is not applied, or for another family of models.
        ModelError: the file cannot be read.
    """
    try:
        header = headers.read(path)
        check(header)
        state = load_file(path)
    except (ModelUnavailable, ModelAway, OSError, safetensors.SafetensorError) as error:
        raise unreadable("LoRA", path, error) from error
    said = about(header)
    networks = dict(_networks(_parts(state, header.notes, pipeline, path.stem, said), pipeline, path.stem, said))
    if not networks:
        raise InvalidRequest(_mismatch(path.stem, said, pipeline, "it has nothing for its networks"))
    return Lora(path.stem, networks, frozenset(each for each in networks if _reads_prompts(each, pipeline)))


def _parts(
    state: dict[str, Tensor], notes: Mapping[str, str], pipeline: Pipeline, name: str, said: About
) -> dict[str, dict[str, Tensor]]:
    """The tensors by the component that they are for, as ``<layer>.lora_A.weight`` and ``<layer>.lora_B.weight``."""
    if not hasattr(type(pipeline), "lora_state_dict"):
        raise InvalidRequest(f"this model, of {type(pipeline).__name__}, takes no LoRAs")
    of_unet = {"unet_config": pipeline.unet.config} if hasattr(pipeline, "unet") else {}
    try:
        found = type(pipeline).lora_state_dict(_with_alphas_worked_in(state), **of_unet)
        named: dict[str, Tensor] = found[0] if isinstance(found, tuple) else found
        parts = {part: _as_peft(part, _below(f"{part}.", named)) for part in {key.split(".")[0] for key in named}}
    except Exception as error:  # diffusers raises anything where names are not what it knows
        raise InvalidRequest(_mismatch(name, said, pipeline, first_line(error))) from error
    return {part: _with_noted_alphas(tensors, part, notes) for part, tensors in parts.items()}


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}


def _as_peft(part: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    if part == "unet":
        converted: dict[str, Tensor] = convert_unet_state_dict_to_peft(tensors)
    elif part.startswith("text_encoder"):
        converted = convert_state_dict_to_peft(convert_state_dict_to_diffusers(tensors))
    else:
        converted = tensors
    return {key.replace(".default.", "."): tensor for key, tensor in converted.items()}


def _networks(
    parts: Mapping[str, Mapping[str, Tensor]], pipeline: Pipeline, name: str, said: About
) -> Iterator[tuple[nn.Module, dict[nn.Module, Pair]]]:
    device = device_of(pipeline)
    for part, tensors in parts.items():
        if not hasattr(pipeline, part):
            raise InvalidRequest(_mismatch(name, said, pipeline, f"it is for a {part}, which this model lacks"))
        network = getattr(pipeline, part)
        if network is None:
            continue  # a text encoder that was left out on purpose
        dtype = network.dtype
        layers: dict[nn.Module, Pair] = {}
        for key in (key for key in tensors if key.endswith(_DOWN)):
            path = key.removesuffix(_DOWN)
            layer, up = _layer(network, path), tensors.get(path + _UP)
            pair = None if up is None else Pair(tensors[key].to(device, dtype), up.to(device, dtype))
            if layer is None or pair is None or not pair.fits(layer):
                raise InvalidRequest(_mismatch(name, said, pipeline, f"its {part}.{path} does not fit"))
            layers[layer] = pair
        if layers:
            yield network, layers


def _layer(network: nn.Module, path: str) -> nn.Module | None:
    for each in (path, path.removeprefix("text_model."), f"text_model.{path}"):  # transformers renamed it
        try:
            return network.get_submodule(each)
        except AttributeError:
            continue
    return None


def _with_alphas_worked_in(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors with each alpha multiplied in: under which names alphas come out need not be known then."""
    scaled = dict(state)
    for key in (key for key in state if key.endswith(".alpha")):
        downs = (key.removesuffix(".alpha") + spelling for spelling in _DOWN_SPELLINGS)
        if (down := next((each for each in downs if each in state), None)) is not None:
            rank = len(state[down])
            scaled[down] = state[down] * (state[key].item() / rank)
            scaled[key] = torch.tensor(float(rank))
    return scaled


def _with_noted_alphas(tensors: dict[str, Tensor], part: str, notes: Mapping[str, str]) -> dict[str, Tensor]:
    """The tensors with the alphas that diffusers writes beside them, in the file's header."""
    try:
        noted = json.loads(notes.get(_PEFT_NOTES) or "{}")
    except ValueError:
        return tensors
    own = {key.removeprefix(f"{part}."): value for key, value in noted.items() if key.startswith(f"{part}.")}
    if not own.get("lora_alpha"):
        return tensors
    return {
        key: tensor * _noted_scale(own, key.removesuffix(_DOWN), len(tensor)) if key.endswith(_DOWN) else tensor
        for key, tensor in tensors.items()
    }


def _noted_scale(noted: Mapping[str, Any], layer: str, rank: int) -> float:
    patterns = noted.get("alpha_pattern") or {}
    own = (alpha for pattern, alpha in patterns.items() if re.search(rf"(^|\.){pattern}$", layer))
    alpha = float(next(own, noted["lora_alpha"]))
    return alpha / rank**0.5 if noted.get("use_rslora") else alpha / rank


def _reads_prompts(network: nn.Module, pipeline: Pipeline) -> bool:
    return any(name.startswith("text_encoder") and each is network for name, each in pipeline.components.items())


def _mismatch(name: str, said: About, pipeline: Pipeline, detail: str) -> str:
    family = f"for {said.family}" if said.family else "for another family of models"
    return f"the LoRA {name!r} is {family}, and this model is of {type(pipeline).__name__}: {detail}"
