"""How well the LoRA and the ControlNet do: ``python -m tools.train_doodle.evaluate_beside``.

Draws with the engine, as the service does, pictures with and without in the same batches. Prints as JSON how much ink
the LoRA brings at each scale, and how far what is drawn lies over what the outline was made of.

What was chosen by looking at such figures was chosen with ``--scenes choice``, of which the others have none.
"""

import argparse
import dataclasses
import json
import random
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, Final

import numpy as np
from PIL import Image

from stablediffusiond.engine.beside_model import FOLDER, BesideModel
from stablediffusiond.engine.job import Sample, Task
from stablediffusiond.engine.models import BUILT_IN, load_pipeline
from stablediffusiond.engine.pipeline_denoiser import PipelineDenoiser
from stablediffusiond.errors import JobError
from stablediffusiond.messages.complete_request import CompleteRequest
from stablediffusiond.settings import ModelSettings
from tools.train_doodle import controlnet, lora
from tools.train_doodle.captions import held_out_caption
from tools.train_doodle.drawing import draw
from tools.train_doodle.evaluate import GUIDANCE_SCALE, STEPS
from tools.train_doodle.measures import ink, overlap
from tools.train_doodle.outlines import outline
from tools.train_doodle.scenes import COLOURS, Scene, any_scene

_SCALES: Final = (0.0, 0.25, 0.5, 0.75, 1.0)
_CALL_ROWS: Final = 64
_PERCENTILES: Final = (10, 25, 50, 75, 90)
#: A picture with less has none, and no share of it.
_LEAST_INK: Final = 1e-3
#: Of colours that are dark themselves ink is not told.
_BRIGHT: Final = tuple(name for name, colour in COLOURS.items() if max(colour) > 200)
#: What is black in the drawings of these is ink.
_PLAIN: Final = ("circle", "square", "triangle", "star", "heart", "moon")
Fields = dict[str, Any]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--model", type=Path, default=BUILT_IN, help="the exported model")
    options.add_argument("--beside", type=Path, default=FOLDER, help="the folder of LoRA and ControlNet")
    options.add_argument("--count", type=int, default=120, help="pictures of each kind")
    options.add_argument("--scenes", default="style", help="another word: other scenes, prompts and outlines")
    options.add_argument("--steps", type=int, default=STEPS, help="of each picture")
    options.add_argument("--device", default="auto")
    chosen = options.parse_args()
    pipeline = load_pipeline(ModelSettings(name=str(chosen.model.absolute()), device=chosen.device))
    beside = BesideModel(chosen.beside / "loras", chosen.beside / "controlnets")
    denoiser = PipelineDenoiser(pipeline, "doodle", beside=beside)
    usual = {"steps": chosen.steps, "guidance_scale": GUIDANCE_SCALE}
    report = _style(denoiser, chosen.count, chosen.scenes, usual)
    report |= _following(denoiser, chosen.count, chosen.scenes, usual)
    print(json.dumps(report, indent=2))


def drawn(
    denoiser: PipelineDenoiser, asked: Sequence[Fields], controls: Sequence[Sequence[Image.Image]] = ()
) -> list[Image.Image]:
    """The pictures for ``asked``, the fields of requests, which step together as far as they can.

    Raises:
        JobError: one of them cannot be drawn.
    """
    samples = []
    for key, fields in enumerate(asked):
        request = CompleteRequest.from_fields(fields)[0]
        files = denoiser.read_files(request)
        task = Task(key, request, controls=controls[key] if controls else (), files=files)
        samples.append(Sample(task, 0, denoiser.kind_of(request), denoiser.rows_of(request)))
    refused = denoiser.begin(samples)
    while not refused and (stepping := [sample for sample in samples if not sample.finished]):
        refused = denoiser.step([each for each in stepping if each.kind == stepping[0].kind], _CALL_ROWS)
    pictures = []
    for made in [*refused.values(), *denoiser.finish([] if refused else samples)]:
        if isinstance(made, JobError):
            raise made
        pictures.append(Image.fromarray(made))
    return pictures


def _style(denoiser: PipelineDenoiser, count: int, scenes: str, usual: Fields) -> dict[str, object]:
    """The ink at each scale as a share of that at 1, and the latter as a share of what the program draws."""
    rng = random.Random(scenes)
    shares: dict[float, list[float]] = {scale: [] for scale in _SCALES}
    of_drawn = []
    for seed in range(count):
        scene = _plain_scene(rng)
        fields = {**usual, "prompt": held_out_caption(scene, rng), "seed": seed}
        asked = [{**fields, "loras": [{"name": lora.NAME, "scale": scale}]} for scale in _SCALES]
        without, *others = drawn(denoiser, asked)
        found = [ink(picture, without) for picture in (without, *others)]
        right = ink(lora.ink_drawing(scene, random.Random(seed)), draw(scene, random.Random(seed)))
        of_drawn.append(found[-1] / right)
        for scale, each in zip(_SCALES, found, strict=True):
            shares[scale].append(each / max(found[-1], _LEAST_INK))
    by_scale = {f"{scale:g}": _spread(each) for scale, each in shares.items()}
    return {"ink by scale": by_scale, "ink of the drawn": _spread(of_drawn)}


def _spread(values: Sequence[float]) -> dict[str, float]:
    """Percentiles; what is between the 25th and the 75th is said of half of the pictures."""
    found = np.percentile(values, _PERCENTILES)
    return {str(each): round(float(value), 3) for each, value in zip(_PERCENTILES, found, strict=True)}


def _following(denoiser: PipelineDenoiser, count: int, scenes: str, usual: Fields) -> dict[str, object]:
    """How far subjects lie over the drawing of which they had the outline; without it, by chance."""
    rng = random.Random(f"following/{scenes}")
    with_it, without = [], []
    for seed in range(count):
        scene = controlnet.anywhere(rng)
        drawing = draw(scene, rng)
        prompt = f"a {scene.colour} {scene.subject} on a {scene.ground} background"
        fields = {**usual, "prompt": prompt, "seed": seed}
        control = [{"model": controlnet.NAME, "image": b"opened already"}]
        led, free = drawn(denoiser, [{**fields, "control": control}, fields], [[outline(drawing)], []])
        with_it.append(overlap(led, drawing))
        without.append(overlap(free, drawing))
    return {"overlap with the outline": round(fmean(with_it), 3), "without": round(fmean(without), 3)}


def _plain_scene(rng: random.Random) -> Scene:
    scene = any_scene(rng, held_out=True)
    colour, ground = rng.sample(_BRIGHT, 2)
    return dataclasses.replace(scene, subject=rng.choice(_PLAIN), colour=colour, ground=ground)


if __name__ == "__main__":
    main()
