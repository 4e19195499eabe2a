"""Trains the autoencoder: ``python -m tools.train_doodle.autoencoder --work build/doodle``.

Two stages, each with its checkpoint: pictures of 64 pixels, where every pixel counts; then of all sizes served.
"""

import argparse
import random
from pathlib import Path
from typing import Final

import torch

from tools.train_doodle.drawing import draw, pixels_of
from tools.train_doodle.networks import OTHER_PIXELS, PIXELS, Network, build_autoencoder, choose_device
from tools.train_doodle.scenes import any_scene
from tools.train_doodle.training import Run, seeded

_KL_WEIGHT: Final = 1e-4
_SMALL: Final = 64


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--work", type=Path, default=Path("build/doodle"), help="where checkpoints and results lie")
    options.add_argument("--small-steps", type=int, default=12_000, help="steps on pictures of 64 pixels")
    options.add_argument("--steps", type=int, default=3_000, help="steps on pictures of the sizes that are served")
    options.add_argument("--device", default="auto")
    chosen = options.parse_args()
    device = choose_device(chosen.device)

    torch.manual_seed(0)
    model = build_autoencoder().to(device)
    _train(model, chosen.work / "autoencoder-small.pt", chosen.small_steps, 2e-3, device, small=True)
    _train(model, chosen.work / "autoencoder.pt", chosen.steps, 5e-4, device, small=False)
    model.save_pretrained(chosen.work / "vae")


def _train(
    model: Network, checkpoint: Path, steps: int, learning_rate: float, device: torch.device, *, small: bool
) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), learning_rate, betas=(0.9, 0.99), weight_decay=0.0)
    run = Run(checkpoint, steps, learning_rate, optimizer, {"autoencoder": model})
    for step in run.go():
        rng = seeded(checkpoint.stem, step)
        pictures = _some_pictures(rng, small=small).to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=small):
            posterior = model.encode(pictures).latent_dist
            restored = model.decode(posterior.sample()).sample.float()
        losses = _losses(restored, pictures)
        losses["kl"] = posterior.kl().float().mean() / posterior.mean[0].numel()
        run.update(losses["l1"] + losses["l2"] + losses["edges"] + _KL_WEIGHT * losses["kl"], losses)


def _some_pictures(rng: random.Random, *, small: bool) -> torch.Tensor:
    """(n, 3, side, side) from -1 to 1; about as many pixels in each batch."""
    pixels = _SMALL if small else rng.choice((PIXELS, PIXELS, PIXELS, *OTHER_PIXELS))
    count = max(2, 16 * _SMALL**2 // pixels**2) if small else max(2, 8 * PIXELS**2 // pixels**2)
    return torch.from_numpy(pixels_of([draw(any_scene(rng), rng, pixels) for _ in range(count)]))


def _losses(restored: torch.Tensor, pictures: torch.Tensor) -> dict[str, torch.Tensor]:
    """Mean distance, mean square, and the mean distance of the differences between neighbours: soft edges cost."""
    error = restored - pictures
    across, down = error.diff(dim=-1), error.diff(dim=-2)
    return {"l1": error.abs().mean(), "l2": error.square().mean(), "edges": across.abs().mean() + down.abs().mean()}


if __name__ == "__main__":
    main()
