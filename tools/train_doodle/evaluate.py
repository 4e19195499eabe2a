"""How well the model does what it is told: ``python -m tools.train_doodle.evaluate --work build/doodle``.

Draws what training never saw together, asked for in wordings that it never saw, and each subject's bare word; has the
judge look at the pictures; prints the shares of what is right as JSON.
"""

import argparse
import json
import random
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

from stablediffusiond.engine.models import BUILT_IN
from tools.train_doodle.captions import held_out_caption
from tools.train_doodle.judge import Judge, load_judge
from tools.train_doodle.networks import Network, choose_device
from tools.train_doodle.scenes import SUBJECTS, any_scene

STEPS: Final = 25
GUIDANCE_SCALE: Final = 5.0
_BATCH: Final = 20


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--work", type=Path, default=Path("build/doodle"), help="where the judge lies")
    options.add_argument("--model", type=Path, default=BUILT_IN, help="the exported model")
    options.add_argument("--prompts", type=int, default=560)
    options.add_argument("--each-word", type=int, default=20, help="pictures for each single word")
    options.add_argument("--steps", type=int, default=STEPS, help="of each picture")
    options.add_argument("--device", default="auto")
    chosen = options.parse_args()
    pipeline = load_pipeline(chosen.model, chosen.device)
    judge = load_judge(chosen.work)
    draw = partial(pictures, pipeline, steps=chosen.steps)
    report = _sentences(draw, judge, chosen.prompts) | _single_words(draw, judge, chosen.each_word)
    print(json.dumps(report, indent=2))


def load_pipeline(model: Path, device: str = "auto") -> Network:
    pipeline = StableDiffusionPipeline.from_pretrained(model, torch_dtype=torch.float32, safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(choose_device(device))


def pictures(
    pipeline: Network, prompts: Sequence[str], *, first_seed: int = 0, steps: int = STEPS
) -> list[Image.Image]:
    """One picture for each prompt, with the seeds from ``first_seed`` on."""
    drawn: list[Image.Image] = []
    for start in range(0, len(prompts), _BATCH):
        some = list(prompts[start : start + _BATCH])
        generators = [torch.Generator().manual_seed(first_seed + start + place) for place in range(len(some))]
        drawn += pipeline(some, num_inference_steps=steps, guidance_scale=GUIDANCE_SCALE, generator=generators).images
    return drawn


def _sentences(draw: Callable[..., list[Image.Image]], judge: Judge, count: int) -> dict[str, object]:
    rng = random.Random("evaluation")
    scenes = [any_scene(rng, held_out=True) for _ in range(count)]
    prompts = [held_out_caption(scene, rng) for scene in scenes]
    right: Counter[str] = Counter()
    missed: Counter[str] = Counter()
    for scene, seen in zip(scenes, judge.look(draw(prompts)), strict=True):
        hits = {question: seen[question] == getattr(scene, question) for question in ("subject", "colour", "ground")}
        right.update(question for question, hit in hits.items() if hit)
        right["all three"] += all(hits.values())
        if not hits["subject"]:
            missed[f"{scene.subject} seen as {seen['subject']}"] += 1
    shares = {question: round(right[question] / count, 4) for question in ("subject", "colour", "ground", "all three")}
    return {"prompts": count, **shares, "mistaken": dict(missed.most_common(10))}


def _single_words(draw: Callable[..., list[Image.Image]], judge: Judge, each: int) -> dict[str, object]:
    words = [subject for subject in SUBJECTS for _ in range(each)]
    seen = judge.look(draw(words, first_seed=100_000))
    right = sum(word == found["subject"] for word, found in zip(words, seen, strict=True))
    return {"single words": len(words), "single words right": round(right / len(words), 4)}


if __name__ == "__main__":
    main()
