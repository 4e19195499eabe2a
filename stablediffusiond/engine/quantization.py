"""Weights of fewer bits than the model has been published in, made when it has been loaded, on the device itself.

So it is the same for folders, hubs and single files; diffusers' own quantisation happens while it reads a folder. Only
weights are quantised, and made whole again where their layer computes: the rows of a call have nothing to do with each
other.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import torch
from torch import nn

from stablediffusiond.engine.networks import Pipeline, denoiser_of, is_autoencoder
from stablediffusiond.engine.optional_packages import module_of
from stablediffusiond.errors import ModelUnavailable
from stablediffusiond.settings import ModelSettings, Quantize

log = logging.getLogger(__name__)

_FLOAT8: Final = torch.float8_e4m3fn
#: Networks beside the denoiser that are quantised, too: those of language models, and not CLIP.
_LARGE_WEIGHTS: Final = 1_000_000_000
#: Weights of a row that NF4 scales together; the rows of a few small layers have less.
_BLOCK: Final = 64
_PACKAGES: Final[Mapping[Quantize, str]] = {"int8": "torchao", "nf4": "bitsandbytes"}


def check(settings: ModelSettings) -> None:
    """Before gigabytes are read: whether this can be done at all.

    Raises:
        ModelUnavailable: a package is missing, or two settings do not go together.
    """
    mode = settings.quantize
    if mode in _PACKAGES:
        module_of(_PACKAGES[mode], f'[model] quantize = "{mode}"')
    if mode == "nf4" and settings.offload != "off":
        raise ModelUnavailable(
            f'[model] quantize = "nf4" does not go together with offload = "{settings.offload}": what its weights are '
            'scaled by would stay behind; take quantize = "int8"'
        )


def quantise(pipeline: Pipeline, mode: Quantize, device: torch.device | None) -> None:
    """Keep the weights of the denoiser, and of what else is large, as ``mode`` says; on ``device``, if it is given.

    Raises:
        ModelUnavailable: they cannot be kept so.
    """
    if mode == "off":
        return
    denoiser = denoiser_of(pipeline)
    for name, network in pipeline.components.items():
        if not isinstance(network, nn.Module) or not (network is denoiser or (mode != "fp8" and _is_large(network))):
            continue
        if getattr(network, "is_quantized", False):
            log.info("the model's %s is quantised already, and stays as it is", name)
            continue
        _MAKERS[mode](network, device)
        log.info("the weights of the model's %s are kept in %s", name, mode)


def _is_large(network: nn.Module) -> bool:
    return not is_autoencoder(network) and sum(each.numel() for each in network.parameters()) >= _LARGE_WEIGHTS


def _cast_by_layers(network: Any, _: torch.device | None) -> None:
    if not hasattr(network, "enable_layerwise_casting"):
        raise ModelUnavailable(f"[model] quantize: a {type(network).__name__} cannot be kept in fp8; take int8")
    network.enable_layerwise_casting(storage_dtype=_FLOAT8, compute_dtype=network.dtype)


def _to_int8(network: nn.Module, device: torch.device | None) -> None:
    """https://docs.pytorch.org/ao/stable/api_reference/api_ref_quantization.html"""
    quantization: Any = module_of("torchao", "int8").quantization
    chosen = {id(layer) for _, _, layer in _layers(network)}
    config = quantization.Int8WeightOnlyConfig(set_inductor_config=False)
    quantization.quantize_(network, config, filter_fn=lambda layer, _: id(layer) in chosen, device=device)


def _to_nf4(network: nn.Module, device: torch.device | None) -> None:
    """https://huggingface.co/docs/bitsandbytes/main/en/reference/nn/linear4bit"""
    layers: Any = module_of("bitsandbytes", "nf4").nn
    for parent, name, layer in list(_layers(network)):
        if layer.in_features % _BLOCK:
            continue
        weight = layer.weight.detach()
        with torch.device("meta"):
            made = layers.Linear4bit(
                layer.in_features, layer.out_features, layer.bias is not None,
                compute_dtype=weight.dtype, quant_type="nf4",
            )  # fmt: skip
        made.weight = layers.Params4bit(weight, requires_grad=False, quant_type="nf4", module=made)
        made.bias = layer.bias
        # Its kernel for such CPUs takes numbers that do not lie beside each other for some that do, as of a row alone.
        made.support_avx512bf16_for_cpu = False
        setattr(parent, name, made.to(device or weight.device).eval())  # which is when it is quantised


_MAKERS: Final[Mapping[Quantize, Callable[[Any, torch.device | None], None]]] = {
    "fp8": _cast_by_layers,
    "int8": _to_int8,
    "nf4": _to_nf4,
}


def _layers(network: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Linear]]:
    """The linear layers of ``network``, with what each is called in what it is part of.

    Left out are those that it says lose too much, and those whose weights somebody else uses, too.
    """
    whole = tuple(getattr(network, "_keep_in_fp32_modules", None) or ())
    used = Counter(id(each) for part in network.modules() for each in part.parameters(recurse=False))
    for path, parent in network.named_modules():
        for name, layer in parent.named_children():
            named = f"{path}.{name}".split(".")
            if type(layer) is nn.Linear and used[id(layer.weight)] == 1 and not any(each in named for each in whole):
                yield parent, name, layer
