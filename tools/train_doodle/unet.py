"""Trains the UNet, and the text encoder with it: ``python -m tools.train_doodle.unet --work build/doodle``.

Velocity prediction (arXiv:2202.00512) on the latents of `latents`, with the captions drawn anew each time. What is
exported is the average of the weights over the last steps.
"""

import argparse
import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
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
    tokens,
)
from tools.train_doodle.scenes import Scene
from tools.train_doodle.training import Run, seeded

_CHECKPOINT: Final = "unet.pt"
_MATRIX_RATE, _OTHER_RATE = 0.01, 1e-3
_AVERAGE_DECAY: Final = 0.999
#: One batch in so many is of another size.
_OTHER_SIZE_OF: Final = 8


@dataclass(frozen=True, slots=True)
class Encoded:
    """Drawings of one size, as latents, and what they show."""

    latents: npt.NDArray[np.float16]
    scenes: list[Scene]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--work", type=Path, default=Path("build/doodle"))
    options.add_argument("--steps", type=int, default=15_000)
    options.add_argument("--batch", type=int, default=32)
    options.add_argument("--device", default="auto")
    chosen = options.parse_args()
    device = choose_device(chosen.device)

    torch.manual_seed(0)
    tokenizer = CLIPTokenizer.from_pretrained(chosen.work / "tokenizer")
    models = _build(chosen.work).to(device)
    average = _averaged(models)
    both = optimizers(models, matrix_rate=_MATRIX_RATE, other_rate=_OTHER_RATE)
    parts = {"models": models, "average": average}
    run = Run(chosen.work / _CHECKPOINT, chosen.steps, both, parts, warm_up_steps=300)
    sizes = {pixels: _load(chosen.work, pixels) for pixels in (PIXELS, *OTHER_PIXELS)}
    for step in run.go():
        loss = _loss(models, tokenizer, *_some(seeded("unet", step), sizes, chosen.batch), device)
        run.update(loss, {"velocity": loss})
        average.update_parameters(models)


def load_average(work: Path) -> Network:
    """``unet`` and ``text_encoder`` as they are at the last checkpoint, averaged."""
    average = _averaged(_build(work))
    average.load_state_dict(torch.load(work / _CHECKPOINT, map_location="cpu", weights_only=True)["average"])
    return average.module


def _build(work: Path) -> torch.nn.ModuleDict:
    return torch.nn.ModuleDict(
        {"unet": build_unet(), "text_encoder": CLIPTextModel.from_pretrained(work / "text_encoder")}
    )


def _averaged(models: torch.nn.Module) -> Network:
    """A moving average that starts fast: after n steps it looks back over a tenth of them, at most."""

    def update(average: torch.Tensor, now: torch.Tensor, count: torch.Tensor | int) -> torch.Tensor:
        decay = min(_AVERAGE_DECAY, (float(count) + 1) / (float(count) + 10))
        return average.lerp(now, 1 - decay)

    return torch.optim.swa_utils.AveragedModel(models, avg_fn=update)


def _loss(
    models: Network, tokenizer: CLIPTokenizer, latents: torch.Tensor, captions: list[str], device: torch.device
) -> torch.Tensor:
    scheduler = build_scheduler()
    latents = latents.to(device)
    noise = torch.randn_like(latents)
    timesteps = torch.randint(scheduler.config.num_train_timesteps, (len(latents),), device=device)
    noisy = scheduler.add_noise(latents, noise, timesteps)
    velocity = scheduler.get_velocity(latents, noise, timesteps)
    words = models["text_encoder"](tokens(tokenizer, captions).to(device)).last_hidden_state
    return functional.mse_loss(models["unet"](noisy, timesteps, words).sample, velocity)


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
