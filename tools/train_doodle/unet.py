"""Trains the UNet: ``python -m tools.train_doodle.unet --work build/doodle``.

Velocity prediction (arXiv:2202.00512) on the latents of `latents`, with the captions drawn anew each time. The text
encoder stays as `words` has left it. What is exported is the average of the weights over the last steps.
"""

import argparse
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from diffusers import UNet2DConditionModel
from torch.nn import functional
from transformers import CLIPTextModel, CLIPTokenizer

from tools.train_doodle.captions import caption
from tools.train_doodle.muon import optimizers
from tools.train_doodle.networks import (
    OTHER_PIXELS,
    PIXELS,
    VAE_FACTOR,
    Network,
    build_scheduler,
    build_unet,
    choose_device,
    in_bfloat16,
    tokens,
)
from tools.train_doodle.scenes import Scene
from tools.train_doodle.tokenizer import load_tokenizer
from tools.train_doodle.training import Run, seeded

_CHECKPOINT: Final = "unet.pt"
_MATRIX_RATE, _OTHER_RATE = 0.012, 1e-3
_AVERAGE_DECAY: Final = 0.999
#: One batch in so many is of another size.
_OTHER_SIZE_OF: Final = 8
#: How much of the noise, at most, is the same over patches of so many to a side.
_COARSE: Final = 0.7
_PATCHES: Final = (1, 2, 4)


@dataclass(frozen=True, slots=True)
class Encoded:
    """Drawings of one size, as latents, and what they show."""

    latents: npt.NDArray[np.float16]
    scenes: list[Scene]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--work", type=Path, default=Path("build/doodle"))
    options.add_argument("--steps", type=int, default=8_000)
    options.add_argument("--batch", type=int, default=64)
    options.add_argument("--begin-with", type=Path, help="the folder of a UNet to train further")
    options.add_argument("--rate", type=float, default=1.0, help="learning rate, of what a first training takes")
    options.add_argument("--device", default="auto")
    chosen = options.parse_args()
    device = choose_device(chosen.device)

    torch.manual_seed(0)
    words = Words(load_tokenizer(chosen.work / "tokenizer"), chosen.work / "text_encoder", device)
    begun: Network = UNet2DConditionModel.from_pretrained(chosen.begin_with) if chosen.begin_with else build_unet()
    unet = begun.to(device)
    average = _averaged(unet)
    both = optimizers(unet, matrix_rate=_MATRIX_RATE * chosen.rate, other_rate=_OTHER_RATE * chosen.rate)
    parts = {"unet": unet, "average": average}
    run = Run(chosen.work / _CHECKPOINT, chosen.steps, both, parts, warm_up_steps=200)
    sizes = {pixels: _load(chosen.work, pixels) for pixels in (PIXELS, *OTHER_PIXELS)}
    for step in run.go():
        latents, captions = _some(seeded("unet", step), sizes, chosen.batch)
        loss = velocity_loss(unet, latents.to(device), words.read(captions))
        run.update(loss, {"velocity": loss})
        average.update_parameters(unet)


class Words:
    """The text encoder, as it was trained before."""

    def __init__(self, tokenizer: CLIPTokenizer, folder: Path, device: torch.device) -> None:
        self._tokenizer = tokenizer
        encoder: Network = CLIPTextModel.from_pretrained(folder)
        self._encoder: Network = encoder.to(device).eval()
        self._device = device

    @torch.no_grad()
    def read(self, captions: list[str]) -> torch.Tensor:
        """(n, 77, width)."""
        hidden: torch.Tensor = self._encoder(tokens(self._tokenizer, captions).to(self._device)).last_hidden_state
        return hidden.float()


def load_average(work: Path) -> Network:
    """The UNet as it is at the last checkpoint, averaged."""
    average = _averaged(build_unet())
    average.load_state_dict(torch.load(work / _CHECKPOINT, map_location="cpu", weights_only=True)["average"])
    return average.module


def _averaged(unet: Network) -> Network:
    """A moving average that starts fast: after n steps it looks back over a tenth of them, at most."""

    def update(average: torch.Tensor, now: torch.Tensor, count: torch.Tensor | int) -> torch.Tensor:
        decay = min(_AVERAGE_DECAY, (float(count) + 1) / (float(count) + 10))
        return average.lerp(now, 1 - decay)

    return torch.optim.swa_utils.AveragedModel(unet, avg_fn=update)


def velocity_loss(unet: Callable[..., Network], latents: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
    """How far ``unet`` is from the velocity of ``latents``, (n, channels, h, w), at a noise level at random."""
    scheduler = build_scheduler()
    noise = _noise(latents)
    timesteps = torch.randint(scheduler.config.num_train_timesteps, (len(latents),), device=latents.device)
    noisy = scheduler.add_noise(latents, noise, timesteps)
    velocity = scheduler.get_velocity(latents, noise, timesteps)
    with in_bfloat16(latents.device):
        predicted = unet(noisy, timesteps, words).sample
    return functional.mse_loss(predicted.float(), velocity)


def _noise(latents: torch.Tensor) -> torch.Tensor:
    """White noise, in most pictures with some that is the same over large patches (known as offset noise).

    White noise leaves so much of a plain colour standing that the UNet learns to believe it more than the caption; a
    red circle then stays red whatever an img2img request says.
    """
    patches = _PATCHES[int(torch.randint(len(_PATCHES), ()))]
    coarse = torch.randn(*latents.shape[:2], patches, patches, device=latents.device)
    share = _COARSE * torch.rand(len(latents), 1, 1, 1, device=latents.device).square()
    return torch.randn_like(latents) + share * functional.interpolate(coarse, latents.shape[-2:], mode="bilinear")


def _some(rng: random.Random, sizes: dict[int, Encoded], count: int) -> tuple[torch.Tensor, list[str]]:
    pixels = PIXELS if rng.randrange(_OTHER_SIZE_OF) else rng.choice(OTHER_PIXELS)
    encoded = sizes[pixels]
    places = [rng.randrange(len(encoded.scenes)) for _ in range(max(4, count * PIXELS**2 // max(pixels, PIXELS) ** 2))]
    latents = torch.from_numpy(encoded.latents[places].astype(np.float32))
    assert latents.shape[-1] == pixels // VAE_FACTOR
    return latents, [caption(encoded.scenes[place], rng) for place in places]


def _load(work: Path, pixels: int) -> Encoded:
    described = json.loads((work / f"scenes-{pixels}.json").read_text("utf-8"))
    return Encoded(np.load(work / f"latents-{pixels}.npy"), [Scene(**fields) for fields in described])


if __name__ == "__main__":
    main()
