"""A model that is larger than the device's memory: weights of fewer bits, or weights that come when they are needed.

https://huggingface.co/docs/diffusers/main/en/optimization/memory
"""

import torch

from stablediffusiond.engine.networks import Pipeline
from stablediffusiond.engine.quantization import quantise
from stablediffusiond.settings import ModelSettings


def place(pipeline: Pipeline, device: torch.device, settings: ModelSettings) -> None:
    """Bring ``pipeline`` onto ``device``, as the settings have it.

    Raises:
        ModelUnavailable: its networks cannot be kept so.
    """
    quantise(pipeline, settings.quantize, device if settings.offload == "off" else None)
    if settings.offload == "off":
        pipeline.to(device)
    else:
        # A stream of its own copies the next layers while one computes.
        pipeline.enable_group_offload(device, offload_type="leaf_level", use_stream=device.type == "cuda")


def device_of(pipeline: Pipeline) -> torch.device:
    """Where ``pipeline`` computes; some of its weights may be elsewhere."""
    device: torch.device = pipeline._execution_device  # noqa: SLF001 (diffusers has no public name for it)
    return device
