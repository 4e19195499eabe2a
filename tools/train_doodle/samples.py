"""A grid of what the model draws: ``python -m tools.train_doodle.samples --output grid.png``."""

import argparse
import random
from pathlib import Path
from typing import Final

from PIL import Image

from stablediffusiond.engine.models import BUILT_IN
from tools.train_doodle.captions import held_out_caption
from tools.train_doodle.evaluate import STEPS, load_pipeline, pictures
from tools.train_doodle.scenes import SUBJECTS, any_scene

_ACROSS: Final = 8
_COUNT: Final = 64


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--model", type=Path, default=BUILT_IN)
    options.add_argument("--output", type=Path, default=Path("build/doodle/samples.png"))
    options.add_argument("--steps", type=int, default=STEPS, help="of each picture")
    options.add_argument("--device", default="auto")
    chosen = options.parse_args()
    prompts = _prompts()
    drawn = pictures(load_pipeline(chosen.model, chosen.device), prompts, steps=chosen.steps)
    grid(drawn).save(chosen.output, optimize=True)
    for start in range(0, _COUNT, _ACROSS):
        print(" | ".join(prompts[start : start + _ACROSS]))


def grid(images: list[Image.Image]) -> Image.Image:
    """Pictures of one size, eight in a row."""
    width, height = images[0].size
    sheet = Image.new("RGB", (width * _ACROSS, height * -(-len(images) // _ACROSS)))
    for place, image in enumerate(images):
        sheet.paste(image, (place % _ACROSS * width, place // _ACROSS * height))
    return sheet


def _prompts() -> list[str]:
    """Each subject by its word alone, and then in sentences that training never saw."""
    rng = random.Random("samples")
    return [*SUBJECTS, *(held_out_caption(any_scene(rng, held_out=True), rng) for _ in range(_COUNT - len(SUBJECTS)))]


if __name__ == "__main__":
    main()
