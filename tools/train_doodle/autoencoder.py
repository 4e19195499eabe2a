"""Trains the autoencoder: ``python -m tools.train_doodle.autoencoder --work build/doodle``.

Three stages, each with its checkpoint: pictures of 64 pixels, where every pixel counts; then all sizes that are served;
then the decoder alone, from latents that are a little wrong, as a UNet's are. After the second stage the encoder stays
as it is, so that the third can run, and run again, beside the training of the UNet.
"""

import argparse
import random
from pathlib import Path
from typing import Final

import torch

from tools.train_doodle.drawing import draw, pixels_of
from tools.train_doodle.muon import optimizers
from tools.train_doodle.networks import (
    OTHER_PIXELS,
    PIXELS,
    Network,
    build_autoencoder,
    choose_device,
    in_bfloat16,
)
from tools.train_doodle.scenes import any_scene
from tools.train_doodle.training import Run, seeded

_MATRIX_RATE, _OTHER_RATE = 0.015, 2e-3
_KL_WEIGHT: Final = 1e-4
_SMALL: Final = 64
#: How wrong the third stage's latents are at most, in their own standard deviations.
_WRONG: Final = 0.15


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--work", type=Path, default=Path("build/doodle"), help="where checkpoints and results lie")
    options.add_argument("--small-steps", type=int, default=6_000, help="steps on pictures of 64 pixels")
    options.add_argument("--steps", type=int, default=1_000, help="steps on pictures of the sizes that are served")
    options.add_argument("--decoder-steps", type=int, default=3_000, help="steps of the decoder alone")
    options.add_argument("--device", default="auto")
    chosen = options.parse_args()
    device = choose_device(chosen.device)

    torch.manual_seed(0)
    model = build_autoencoder().to(device)
    _train(model, chosen.work / "autoencoder-small.pt", chosen.small_steps, 1.0, device)
    _train(model, chosen.work / "autoencoder.pt", chosen.steps, 0.3, device)
    model.save_pretrained(chosen.work / "vae")
    for frozen in (model.encoder, model.quant_conv):
        frozen.requires_grad_(requires_grad=False)
    _train(model, chosen.work / "decoder.pt", chosen.decoder_steps, 0.5, device)
    model.save_pretrained(chosen.work / "vae")


def _train(model: Network, checkpoint: Path, steps: int, rate: float, device: torch.device) -> None:
    both = optimizers(model, matrix_rate=_MATRIX_RATE * rate, other_rate=_OTHER_RATE * rate)
    run = Run(checkpoint, steps, both, {"autoencoder": model})
    small, decoder_only = checkpoint.stem == "autoencoder-small", checkpoint.stem == "decoder"
    for step in run.go():
        rng = seeded(checkpoint.stem, step)
        pictures = _some_pictures(rng, small=small).to(device)
        # Half precision where speed counts; the last steps are after the last bits.
        with in_bfloat16(device, wanted=small):
            posterior = model.encode(pictures).latent_dist
            latents = posterior.sample()
            if decoder_only:
                latents = _a_little_wrong(latents)
            restored = model.decode(latents).sample.float()
        losses = _losses(restored, pictures)
        losses["kl"] = posterior.kl().float().mean() / posterior.mean[0].numel()
        run.update(losses["l1"] + losses["l2"] + losses["edges"] + _KL_WEIGHT * losses["kl"], losses)


def _a_little_wrong(latents: torch.Tensor) -> torch.Tensor:
    wrong = _WRONG * torch.rand(len(latents), 1, 1, 1, device=latents.device) * latents.std()
    return latents + wrong * torch.randn_like(latents)


def _some_pictures(rng: random.Random, *, small: bool) -> torch.Tensor:
    """(n, 3, side, side) from -1 to 1; about as many pixels in each batch."""
    pixels = _SMALL if small else rng.choice((PIXELS, PIXELS, PIXELS, *OTHER_PIXELS))
    count = 16 if small else max(2, 8 * PIXELS**2 // pixels**2)
    return torch.from_numpy(pixels_of([draw(any_scene(rng), rng, pixels) for _ in range(count)]))


def _losses(restored: torch.Tensor, pictures: torch.Tensor) -> dict[str, torch.Tensor]:
    """Mean distance, mean square, and the mean distance of the differences between neighbours: soft edges cost."""
    error = restored - pictures
    across, down = error.diff(dim=-1), error.diff(dim=-2)
    return {"l1": error.abs().mean(), "l2": error.square().mean(), "edges": across.abs().mean() + down.abs().mean()}


if __name__ == "__main__":
    main()
