"""A VAE in place of the model's own: in a file or a folder, which ``[model] vae`` or a request names."""

from pathlib import Path

import diffusers
import torch

from stablediffusiond.engine.checkpoints import components, header
from stablediffusiond.engine.checkpoints.components import Component, Config
from stablediffusiond.engine.checkpoints.families import VAE_PREFIXES
from stablediffusiond.engine.checkpoints.other_kinds import kind_of
from stablediffusiond.engine.checkpoints.weights import Weights
from stablediffusiond.errors import ModelUnavailable

_LATENTS = "decoder.conv_in.weight"


def from_file(file: Path, architecture: str, config: Config, dtype: torch.dtype) -> Component:
    """The VAE in ``file``, in the layout of the original programs, of diffusers, or inside of a whole model.

    Raises:
        ModelUnavailable: there is none in it, or one for other latents.
    """
    found = header.read(file)
    prefix = next((each for each in (*VAE_PREFIXES, "") if each + _LATENTS in found), None)
    if prefix is None:
        raise ModelUnavailable(f"{file.name} {kind_of(found)}")
    if (channels := found.shape(prefix + _LATENTS)[1]) != config["latent_channels"]:
        raise ModelUnavailable(
            f"{file.name} is for latents of {channels} channels, and this model's have {config['latent_channels']}"
        )
    weights = Weights(found, dtype).below(prefix, as_prefix="")
    return components.diffusers_component("VAE", architecture, config, weights, dtype)


def from_folder(folder: Path, dtype: torch.dtype) -> Component:
    """The VAE of a folder of diffusers, its own or a whole model's."""
    whole = folder / "vae" if (folder / "vae/config.json").is_file() else folder
    if not (whole / "config.json").is_file():
        raise ModelUnavailable(f"{folder} holds no VAE: no config.json, neither in it nor in vae/")
    return diffusers.AutoModel.from_pretrained(str(whole), dtype=dtype).eval()
