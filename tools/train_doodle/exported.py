"""The exported model, for what is trained to go with it and leaves it as it is: a LoRA, a ControlNet."""

import argparse
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel

from stablediffusiond.engine.models import BUILT_IN
from tools.train_doodle.networks import Network, choose_device, load_autoencoder
from tools.train_doodle.tokenizer import unpacked
from tools.train_doodle.unet import Words


@dataclass(frozen=True)
class Exported:
    """On ``device``; the UNet in single precision, and not to be trained."""

    device: torch.device
    autoencoder: Network
    words: Words
    unet: Network


def options(about: str, *, output: Path, count: int, counted: str, steps: int, batch: int) -> argparse.ArgumentParser:
    """What each of these trainings is told; ``counted`` says what there are ``count`` of."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--work", type=Path, default=Path("build/doodle"))
    parser.add_argument("--model", type=Path, default=BUILT_IN, help="the exported model")
    parser.add_argument("--output", type=Path, default=output)
    parser.add_argument("--count", type=int, default=count, help=counted)
    parser.add_argument("--steps", type=int, default=steps)
    parser.add_argument("--batch", type=int, default=batch)
    parser.add_argument("--device", default="auto")
    return parser


def load(chosen: argparse.Namespace) -> Exported:
    """The model that is ``chosen`` by `options`."""
    device, model = choose_device(chosen.device), Path(chosen.model)
    unet: Network = UNet2DConditionModel.from_pretrained(model / "unet", torch_dtype=torch.float32)
    return Exported(
        device, load_autoencoder(model / "vae").to(device),
        Words(unpacked(model, chosen.work), model / "text_encoder", device),
        unet.to(device).requires_grad_(requires_grad=False),
    )  # fmt: skip
