"""Teaches the text encoder its words: ``python -m tools.train_doodle.words --work build/doodle``.

Before there is a UNet, it learns to tell from a caption what the picture shows, by classifiers that are thrown away
afterwards; what a caption does not say they have to guess. That takes minutes, and saves the UNet's training hours of
finding out what "red" means.
"""

import argparse
from pathlib import Path
from typing import Final

import torch
from torch.nn import functional
from transformers import CLIPTextModel, CLIPTokenizer

from tools.train_doodle.captions import caption
from tools.train_doodle.networks import TEXT_WIDTH, Network, build_text_encoder, choose_device, tokens
from tools.train_doodle.scenes import QUESTIONS, any_scene
from tools.train_doodle.tokenizer import build_tokenizer, load_tokenizer
from tools.train_doodle.training import Run, seeded

_BATCH: Final = 64


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--work", type=Path, default=Path("build/doodle"))
    options.add_argument("--steps", type=int, default=4_000)
    options.add_argument("--begin-with", type=Path, help="the folder of a text encoder to train further")
    options.add_argument("--rate", type=float, default=1.0, help="learning rate, of what a first training takes")
    options.add_argument("--device", default="auto")
    chosen = options.parse_args()
    device = choose_device(chosen.device)

    torch.manual_seed(0)
    tokenizer, begun = _begin(chosen.work / "tokenizer", chosen.begin_with)
    model = begun.to(device)
    answers = torch.nn.ModuleDict(
        {question: torch.nn.Linear(TEXT_WIDTH, len(answers)) for question, answers in QUESTIONS.items()}
    ).to(device)
    optimizer = torch.optim.AdamW([*model.parameters(), *answers.parameters()], 1e-3 * chosen.rate, weight_decay=0.01)
    run = Run(chosen.work / "words.pt", chosen.steps, [optimizer], {"text_encoder": model, "answers": answers})
    for step in run.go():
        rng = seeded("words", step)
        scenes = [any_scene(rng) for _ in range(_BATCH)]
        ids = tokens(tokenizer, [caption(scene, rng) for scene in scenes]).to(device)
        said = _what_is_said(model(ids).last_hidden_state, ids, tokenizer.eos_token_id)
        losses = {}
        for question, choices in QUESTIONS.items():
            right = torch.tensor([choices.index(getattr(scene, question)) for scene in scenes], device=device)
            losses[question] = functional.cross_entropy(answers[question](said), right)
        run.update(torch.stack(list(losses.values())).sum(), losses)
    model.save_pretrained(chosen.work / "text_encoder")


def _begin(folder: Path, begin_with: Path | None) -> tuple[CLIPTokenizer, Network]:
    """A text encoder goes on with the tokenizer that it has learnt with."""
    if begin_with is not None:
        return load_tokenizer(folder), CLIPTextModel.from_pretrained(begin_with)
    tokenizer = build_tokenizer(folder)
    return tokenizer, build_text_encoder(tokenizer)


def _what_is_said(hidden: torch.Tensor, ids: torch.Tensor, end: int) -> torch.Tensor:
    """The mean over the end and the padding, which alone have seen the whole caption: (n, 77, w) to (n, w)."""
    after = (ids == end).unsqueeze(-1)
    return (hidden * after).sum(dim=1) / after.sum(dim=1)


if __name__ == "__main__":
    main()
