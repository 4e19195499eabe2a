"""Encodes drawings once and for all: ``python -m tools.train_doodle.latents --work build/doodle``.

Writes ``latents-<pixels>.npy`` (n, channels, pixels / 8, pixels / 8; float16, of standard deviation one) and
``scenes-<pixels>.json`` for every size, and the scaling factor into the autoencoder's configuration.
"""

import argparse
import dataclasses
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch
from PIL import Image

from tools.train_doodle.drawing import draw, pixels_of
from tools.train_doodle.networks import OTHER_PIXELS, PIXELS, Network, choose_device, load_autoencoder
from tools.train_doodle.scenes import Scene, any_scene

_BATCH: Final = 32


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--work", type=Path, default=Path("build/doodle"))
    options.add_argument("--count", type=int, default=40_000, help="pictures of the usual size; a tenth of each other")
    options.add_argument("--device", default="auto")
    chosen = options.parse_args()
    device = choose_device(chosen.device)

    model = load_autoencoder(chosen.work / "vae").to(device)
    scale: float | None = None
    for pixels in (PIXELS, *OTHER_PIXELS):
        scenes, latents = _encode(model, pixels, chosen.count if pixels == PIXELS else chosen.count // 10, device)
        if scale is None:
            scale = 1 / float(latents.std())
            model.register_to_config(scaling_factor=scale)
            model.save_config(chosen.work / "vae")
        np.save(chosen.work / f"latents-{pixels}.npy", (latents * scale).astype(np.float16))
        described = json.dumps([dataclasses.asdict(scene) for scene in scenes])
        (chosen.work / f"scenes-{pixels}.json").write_text(described, "utf-8")


def _encode(
    model: Network, pixels: int, count: int, device: torch.device
) -> "tuple[list[Scene], np.ndarray[tuple[int, ...], np.dtype[np.float32]]]":
    rng = random.Random(f"latents/{pixels}")
    scenes: list[Scene] = []
    latents = []
    while len(scenes) < count:
        some = [any_scene(rng) for _ in range(_BATCH)]
        latents.append(_means(model, [draw(scene, rng, pixels) for scene in some], device).cpu().numpy())
        scenes += some
        if len(scenes) % 3200 == 0:
            print(f"{pixels} pixels: {len(scenes)} of {count}", flush=True)
    return scenes, np.concatenate(latents)


def encoded(model: Network, pictures: Sequence[Image.Image], device: torch.device) -> torch.Tensor:
    """Pictures of one size as the UNet has them: (n, channels, pixels / 8, pixels / 8), float32, scaled."""
    batches = [pictures[start : start + _BATCH] for start in range(0, len(pictures), _BATCH)]
    scale: float = model.config.scaling_factor
    return torch.cat([_means(model, batch, device).cpu() for batch in batches]) * scale


def _means(model: Network, pictures: Sequence[Image.Image], device: torch.device) -> torch.Tensor:
    with torch.no_grad():
        means: torch.Tensor = model.encode(torch.from_numpy(pixels_of(pictures)).to(device)).latent_dist.mean.float()
    return means


if __name__ == "__main__":
    main()
