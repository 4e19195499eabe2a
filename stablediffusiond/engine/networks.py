"""What a pipeline of diffusers is made of: its networks, and the pictures that they are made for."""

from typing import Any, Final

import torch

#: A diffusers pipeline; the library's own types do not say what its pipelines are made of.
Pipeline = Any

#: The names under which pipelines have the network that makes the steps.
DENOISERS: Final = ("unet", "transformer", "prior")


def denoiser_of(pipeline: Pipeline) -> Any:
    """The network that makes the steps."""
    return next(each for name in DENOISERS if (each := getattr(pipeline, name, None)) is not None)


def modules_of(pipeline: Pipeline) -> list[torch.nn.Module]:
    return [each for each in pipeline.components.values() if isinstance(each, torch.nn.Module)]


def bytes_of(pipeline: Pipeline) -> int:
    """Of all its weights."""
    modules = modules_of(pipeline)
    return sum(tensor.nbytes for module in modules for tensor in (*module.parameters(), *module.buffers()))


def is_autoencoder(module: torch.nn.Module | type) -> bool:
    """Autoencoders are called by two methods; all other networks by ``forward``."""
    return hasattr(module, "decode") and hasattr(module, "encode")


def own_pixels(pipeline: Pipeline) -> tuple[int, int]:
    """Width and height of the pictures that the model is made for."""
    own = getattr(pipeline, "default_sample_size", None) or denoiser_of(pipeline).config.get("sample_size")
    height, width = own if isinstance(own, list | tuple) else (own, own)
    scale = getattr(pipeline, "vae_scale_factor", 8)
    return (width or 128) * scale, (height or 128) * scale


def multiple_of(pipeline: Pipeline) -> int:
    """Width and height are multiples of so many pixels: a latent of the autoencoder, or a patch of several."""
    patch = denoiser_of(pipeline).config.get("patch_size") or 1
    packed = 2 if hasattr(pipeline, "_pack_latents") else 1
    return int(getattr(pipeline, "vae_scale_factor", 8)) * max(patch if isinstance(patch, int) else 1, packed)


def lay_out_for_gpus(network: torch.nn.Module) -> None:
    """The weights of convolutions, as those of GPUs want them."""
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):  # those of videos have another such layout
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # the stubs leave it out
