"""LoRAs that every request uses, as those that make a model draw in few steps: added to its weights, once and for all.

A call then costs no more than without them, and what a request asks for beside them is added by rows as ever.
"""

import torch
from torch import Tensor, nn

from stablediffusiond.engine.beside_model import beside_model
from stablediffusiond.engine.loras.by_rows import AppliedLora
from stablediffusiond.engine.loras.file import Pair
from stablediffusiond.engine.loras.library import LoraLibrary
from stablediffusiond.engine.networks import Pipeline
from stablediffusiond.errors import InvalidRequest, JobError, ModelUnavailable
from stablediffusiond.messages.loras import read
from stablediffusiond.settings import FolderSettings, ModelSettings


def fuse(pipeline: Pipeline, model: ModelSettings, folders: FolderSettings) -> None:
    """Add the LoRAs that ``model`` names to the weights of ``pipeline``.

    Raises:
        ModelUnavailable: there is no such LoRA, it is not for this model, or its weights are quantized.
    """
    if not model.loras:
        return
    try:
        uses = read(list(model.loras), "[model] loras")
        library = LoraLibrary(pipeline, folders.loras, folders.lora_bytes, beside_model(model.name).loras)
        for applied in library.adapters(uses):
            _add(applied)
    except JobError as error:
        raise ModelUnavailable(f"[model] loras: {error}") from None


@torch.no_grad()
def _add(applied: AppliedLora) -> None:
    for network, layers in applied.lora.networks.items():
        for layer, pair in layers.items():
            weight = layer.weight
            if not isinstance(weight, Tensor) or not weight.is_floating_point() or weight.dtype.itemsize < 2:
                raise InvalidRequest(f"{applied.lora.name!r} cannot be added to weights that are quantized")
            added = _product(layer, pair).float() * applied.scale_in(network)
            weight.copy_((weight.float() + added).to(weight.dtype))


def _product(layer: nn.Module, pair: Pair) -> Tensor:
    """Of both matrices, in the shape of the weights of ``layer``."""
    if isinstance(layer, nn.Conv2d):
        return torch.einsum("or,rihw->oihw", pair.up[:, :, 0, 0].float(), pair.down.float())
    return pair.up.float() @ pair.down.float()
