"""Trains the judge of the evaluation: ``python -m tools.train_doodle.judge --work build/doodle``.

A small classifier that sees nothing but pictures. It is trained on fresh drawings, among them such as the model never
sees, sometimes blurred or noisy, and says what a picture shows. Its own accuracy on further drawings is printed.
"""

import argparse
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import torch
from PIL import Image
from torch import nn
from torch.nn import functional

from tools.train_doodle.drawing import draw, pixels_of
from tools.train_doodle.networks import PIXELS, choose_device
from tools.train_doodle.scenes import QUESTIONS, Scene, any_scene
from tools.train_doodle.training import Run, seeded

_BATCH: Final = 32
_WIDTHS: Final = (24, 48, 64, 96, 128)


class Judge(nn.Module):
    """(n, 3, 128, 128) from -1 to 1; the logits of each question's answers."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in zip((3, *_WIDTHS), _WIDTHS, strict=False):
            layers += [nn.Conv2d(before, after, 4, 2, 1), nn.BatchNorm2d(after), nn.SiLU()]
        self.features = nn.Sequential(*layers, nn.Flatten())
        inner = _WIDTHS[-1] * (PIXELS >> len(_WIDTHS)) ** 2
        self.answers = nn.ModuleDict(
            {question: nn.Linear(inner, len(choices)) for question, choices in QUESTIONS.items()}
        )

    def forward(self, pictures: torch.Tensor) -> dict[str, torch.Tensor]:
        features = self.features(pictures)
        return {question: answer(features) for question, answer in self.answers.items()}

    @torch.inference_mode()
    def look(self, images: Sequence[Image.Image]) -> list[dict[str, str]]:
        """What each picture shows: subject, colour, ground, size, place."""
        device = next(self.parameters()).device
        fitting = [image.resize((PIXELS, PIXELS), Image.Resampling.LANCZOS) for image in images]
        chosen = {
            name: logits.argmax(1) for name, logits in self(torch.from_numpy(pixels_of(fitting)).to(device)).items()
        }
        return [{name: QUESTIONS[name][int(chosen[name][place])] for name in QUESTIONS} for place in range(len(images))]


def load_judge(work: Path) -> Judge:
    judge = Judge()
    judge.load_state_dict(torch.load(work / "judge.pt", weights_only=True)["judge"])
    return judge.eval()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--work", type=Path, default=Path("build/doodle"))
    options.add_argument("--steps", type=int, default=3_000)
    options.add_argument("--examined", type=int, default=2_000, help="drawings that it is examined with")
    options.add_argument("--device", default="auto")
    chosen = options.parse_args()
    device = choose_device(chosen.device)

    torch.manual_seed(0)
    judge = Judge().to(device)
    optimizer = torch.optim.AdamW(judge.parameters(), 1e-3, weight_decay=0.05)
    run = Run(chosen.work / "judge.pt", chosen.steps, [optimizer], {"judge": judge}, decay_share=0.5)
    for step in run.go():
        rng = seeded("judge", step)
        scenes = [_any(rng) for _ in range(_BATCH)]
        pictures = _spoilt(torch.from_numpy(pixels_of([draw(scene, rng) for scene in scenes])), rng).to(device)
        losses = {}
        for question, logits in judge(pictures).items():
            right = [QUESTIONS[question].index(getattr(scene, question)) for scene in scenes]
            losses[question] = functional.cross_entropy(logits, torch.tensor(right, device=device))
        run.update(torch.stack(list(losses.values())).sum(), losses)
    print(json.dumps(_examine(judge.eval(), chosen.examined), indent=2))


def _any(rng: random.Random) -> Scene:
    return any_scene(rng, held_out=rng.random() < 0.125)


def _spoilt(pictures: torch.Tensor, rng: random.Random) -> torch.Tensor:
    """Half of the batches a little noisy or soft: what is judged has no edges as clean as these."""
    if rng.random() < 0.5:
        pictures = pictures + rng.uniform(0, 0.15) * torch.randn_like(pictures)
    if rng.random() < 0.5:
        small = functional.interpolate(pictures, scale_factor=rng.uniform(0.4, 1), mode="bilinear")
        pictures = functional.interpolate(small, size=pictures.shape[-2:], mode="bilinear")
    return pictures


def _examine(judge: Judge, count: int) -> dict[str, float]:
    """The judge's own accuracy, over at least so many drawings that it never saw."""
    rng = random.Random("judge/examination")
    right = dict.fromkeys(QUESTIONS, 0)
    batches = -(-count // _BATCH)
    for _ in range(batches):
        scenes = [_any(rng) for _ in range(_BATCH)]
        for scene, seen in zip(scenes, judge.look([draw(scene, rng) for scene in scenes]), strict=True):
            for question in QUESTIONS:
                right[question] += getattr(scene, question) == seen[question]
    return {question: correct / (batches * _BATCH) for question, correct in right.items()}


if __name__ == "__main__":
    main()
