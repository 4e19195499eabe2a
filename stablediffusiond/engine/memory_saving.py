"""A model that is larger than the device's memory: weights of eight bits, or weights that come when they are needed.

https://huggingface.co/docs/diffusers/main/en/optimization/memory
"""

from typing import Final

import torch

from stablediffusiond.engine.networks import Pipeline, denoiser_of
from stablediffusiond.errors import ModelUnavailable
from stablediffusiond.settings import ModelSettings

_EIGHT_BITS: Final = torch.float8_e4m3fn


def place(pipeline: Pipeline, device: torch.device, settings: ModelSettings) -> None:
    """Bring ``pipeline`` onto ``device``, as the settings have it.

    Raises:
        ModelUnavailable: its networks cannot be kept so.
    """
    denoiser = denoiser_of(pipeline)
    if settings.quantize == "fp8":
        if not hasattr(denoiser, "enable_layerwise_casting"):
            raise ModelUnavailable(f"[model] quantize: a {type(denoiser).__name__} cannot be kept in eight bits")
        denoiser.enable_layerwise_casting(storage_dtype=_EIGHT_BITS, compute_dtype=denoiser.dtype)
    if settings.offload == "off":
        pipeline.to(device)
    else:
        # A stream of its own copies the next layers while one computes.
        pipeline.enable_group_offload(device, offload_type="leaf_level", use_stream=device.type == "cuda")


def device_of(pipeline: Pipeline) -> torch.device:
    """Where ``pipeline`` computes; some of its weights may be elsewhere."""
    device: torch.device = pipeline._execution_device  # noqa: SLF001 (diffusers has no public name for it)
    return device
