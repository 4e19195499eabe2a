"""How well the model does what it is told: ``python -m tools.train_doodle.evaluate --work build/doodle``.

Draws what training never saw together, asked for in wordings that it never saw, and each subject's bare word; has the
judge look at the pictures; prints the shares of what is right as JSON.
"""

import argparse
import json
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Final

import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

from stablediffusiond.engine.models import BUILT_IN
from tools.train_doodle.captions import held_out_caption
from tools.train_doodle.judge import Judge, load_judge
from tools.train_doodle.networks import Network, choose_device
from tools.train_doodle.scenes import SUBJECTS, Scene, any_scene
from tools.train_doodle.wordings import HELD_OUT_WORDINGS, filled, held_out_templates

STEPS: Final = 25
GUIDANCE_SCALE: Final = 5.0
_BATCH: Final = 20
_ASKED: Final = ("subject", "colour", "ground", "all three")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--work", type=Path, default=Path("build/doodle"), help="where the judge lies")
    options.add_argument("--model", type=Path, default=BUILT_IN, help="the exported model")
    options.add_argument("--prompts", type=int, default=560)
    options.add_argument("--wording", help="of these prompts, with the slots of wordings.py; default: any held out")
    options.add_argument("--wordings", type=int, default=400, help="free wordings")
    options.add_argument("--each-word", type=int, default=20, help="pictures for each single word")
    options.add_argument("--steps", type=int, default=STEPS, help="of each picture")
    options.add_argument("--device", default="auto")
    chosen = options.parse_args()
    pipeline = load_pipeline(chosen.model, chosen.device)
    judge = load_judge(chosen.work)
    draw = partial(pictures, pipeline, steps=chosen.steps)
    report = _sentences(draw, judge, chosen.prompts, chosen.wording)
    report |= _free_wordings(draw, judge, chosen.wordings)
    report |= _single_words(draw, judge, chosen.each_word)
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


def _sentences(
    draw: Callable[..., list[Image.Image]], judge: Judge, count: int, wording: str | None
) -> dict[str, object]:
    rng = random.Random("evaluation")
    scenes = [any_scene(rng, held_out=True) for _ in range(count)]
    prompts = [filled(wording, scene, rng) if wording else held_out_caption(scene, rng) for scene in scenes]
    found = _hits(scenes, judge.look(draw(prompts)))
    return {"prompts": count, **{question: _share(hits[question] for hits in found) for question in _ASKED}}


def _free_wordings(draw: Callable[..., list[Image.Image]], judge: Judge, count: int) -> dict[str, object]:
    """``count`` wordings, each once, of a scene of its own; what went wrong is listed, to be read."""
    rng = random.Random("free wordings")
    templates = held_out_templates()
    whole = len(HELD_OUT_WORDINGS)
    chosen = [*templates[:whole], *rng.sample(templates[whole:], len(templates) - whole)][:count]
    scenes = [any_scene(rng, held_out=True) for _ in chosen]
    prompts = [filled(template, scene, rng) for template, scene in zip(chosen, scenes, strict=True)]
    seen = judge.look(draw(prompts, first_seed=200_000))
    right = [hits["all three"] for hits in _hits(scenes, seen)]
    wrong = [
        f"{prompt}: a {found['colour']} {found['subject']} on {found['ground']}"
        for prompt, found, hit in zip(prompts, seen, right, strict=True)
        if not hit
    ]
    return {
        "free wordings": len(prompts),
        "free wordings right": _share(right),
        "of phrases never seen": _share(right[:whole]),
        "wrong": wrong,
    }


def _hits(scenes: Sequence[Scene], seen: Sequence[Mapping[str, str]]) -> list[dict[str, bool]]:
    """Which of what was asked for each picture shows."""
    found = []
    for scene, answers in zip(scenes, seen, strict=True):
        hits = {question: answers[question] == getattr(scene, question) for question in _ASKED[:3]}
        found.append({**hits, "all three": all(hits.values())})
    return found


def _share(right: Iterable[bool]) -> float:
    return round(fmean(right), 4)


def _single_words(draw: Callable[..., list[Image.Image]], judge: Judge, each: int) -> dict[str, object]:
    words = [subject for subject in SUBJECTS for _ in range(each)]
    seen = judge.look(draw(words, first_seed=100_000))
    right = sum(word == found["subject"] for word, found in zip(words, seen, strict=True))
    return {"single words": len(words), "single words right": round(right / len(words), 4)}


if __name__ == "__main__":
    main()
