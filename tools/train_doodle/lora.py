"""Trains the LoRA ``ink``, drawings with a black contour: ``python -m tools.train_doodle.lora --work build/doodle``.

It goes with the model that is exported, which stays as it is; so it is trained after `export`. Of the captions every
second one says "ink drawing", so that the style comes without these words, too.

A LoRA that is only trained at its full scale is not half there at half of it: the contour then comes all at once, at a
scale of about 0.8. So most batches are drawings with a thinner contour, and see half of the LoRA. It is more than half
as wide, since at half of its scale the LoRA draws less than it was shown. And it is saved stronger than it was trained:
what it adds grows faster than its scale up to about 0.6 and slower from there on, so that somewhat further along that
curve half of the scale is half of the ink. ``tools/train_doodle/README.md`` has the curve, and how this was chosen.
"""

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from stablediffusiond.engine.beside_model import FOLDER
from tools.train_doodle.captions import caption
from tools.train_doodle.drawing import draw
from tools.train_doodle.exported import load, options
from tools.train_doodle.latents import encoded
from tools.train_doodle.networks import PIXELS, Network
from tools.train_doodle.outlines import in_ink
from tools.train_doodle.scenes import Scene, any_scene
from tools.train_doodle.training import Run, seeded
from tools.train_doodle.unet import velocity_loss

NAME: Final = "ink"
_TRIGGER: Final = "ink drawing"
_RANK: Final = 4
_RATE: Final = 2.5e-3
#: The contour's width at each scale that is trained, in pixels of drawings that are twice as large and shrunk.
_LINES: Final = {0.5: 7, 1.0: 9}
#: How many batches are of the thinner one, which is harder to learn.
_HALF: Final = 0.6
#: How much stronger it is saved than it was trained.
_SAVED: Final = 1.18
_ADAPTED: Final = (".conv1", ".conv2", ".to_q", ".to_k", ".to_v", ".to_out.0")


class LowRank(nn.Module):
    """Two small layers behind each other, added to the answer of ``layer`` by a hook; at first they add nothing."""

    def __init__(self, layer: nn.Conv2d | nn.Linear) -> None:
        super().__init__()
        self.scale = 1.0
        self.down: nn.Conv2d | nn.Linear
        self.up: nn.Conv2d | nn.Linear
        if isinstance(layer, nn.Conv2d):
            kernel, padding = layer.kernel_size[0], layer.padding[0]
            self.down = nn.Conv2d(layer.in_channels, _RANK, kernel, padding=padding, bias=False)
            self.up = nn.Conv2d(_RANK, layer.out_channels, 1, bias=False)
        else:
            self.down = nn.Linear(layer.in_features, _RANK, bias=False)
            self.up = nn.Linear(_RANK, layer.out_features, bias=False)
        nn.init.zeros_(self.up.weight)
        layer.register_forward_hook(lambda _, given, answer: answer + self.scale * self.up(self.down(given[0])))


def main() -> None:
    counted = "scenes, each drawn for each scale"
    folder = FOLDER / "loras"
    chosen = options(__doc__, output=folder, count=800, counted=counted, steps=550, batch=16).parse_args()

    torch.manual_seed(0)
    model = load(chosen)
    scenes = _scenes(chosen.count)
    latents = {scale: encoded(model.autoencoder, _drawings(scenes, scale), model.device) for scale in _LINES}
    added = adapt(model.unet)
    pairs = nn.ModuleList(added.values()).to(model.device)
    optimizer = torch.optim.AdamW(pairs.parameters(), _RATE, weight_decay=0.0)
    run = Run(chosen.work / f"{NAME}.pt", chosen.steps, [optimizer], {"pairs": pairs}, warm_up_steps=20)
    for step in run.go():
        rng = seeded(NAME, step)
        places = [rng.randrange(len(scenes)) for _ in range(chosen.batch)]
        said = [_caption(scenes[place], rng) for place in places]
        scale = 0.5 if rng.random() < _HALF else 1.0
        for pair in added.values():
            pair.scale = scale
        loss = velocity_loss(model.unet, latents[scale][places].to(model.device), model.words.read(said))
        run.update(loss, {"velocity": loss})
    chosen.output.mkdir(parents=True, exist_ok=True)
    save(added, chosen.output / f"{NAME}.safetensors")


def adapt(unet: Network) -> dict[str, LowRank]:
    """A `LowRank` on each layer that takes part, by the layer's path."""
    return {name: LowRank(layer) for name, layer in unet.named_modules() if name.endswith(_ADAPTED)}


def save(added: Mapping[str, LowRank], file: Path) -> None:
    """In half precision, under the names that diffusers gives such tensors; the header says what it is."""
    tensors = {}
    for path, pair in added.items():
        tensors[f"unet.{path}.lora_A.weight"] = pair.down.weight.detach().half().contiguous().cpu()
        tensors[f"unet.{path}.lora_B.weight"] = (_SAVED * pair.up.weight.detach()).half().contiguous().cpu()
    notes = {
        "modelspec.architecture": "doodle/lora", "modelspec.title": NAME, "modelspec.trigger_phrase": _TRIGGER,
        "modelspec.description": "A black contour around what is drawn", "modelspec.license": "BSD-3-Clause",
    }  # fmt: skip
    save_file(tensors, file, notes)
    file.chmod(0o644)  # safetensors keeps them to their owner, and a service is another user


def ink_drawing(scene: Scene, rng: random.Random, scale: float = 1.0) -> Image.Image:
    """What the LoRA learns to draw at ``scale``, which is 0.5 or 1: the scene, 128 pixels wide, with a contour."""
    large = in_ink(draw(scene, rng, 2 * PIXELS), _LINES[scale])
    return large.resize((PIXELS, PIXELS), Image.Resampling.LANCZOS)


def _scenes(count: int) -> list[Scene]:
    rng = random.Random(NAME)
    return [any_scene(rng) for _ in range(count)]


def _drawings(scenes: Sequence[Scene], scale: float) -> list[Image.Image]:
    rng = random.Random(f"{NAME}/{scale}")
    return [ink_drawing(scene, rng, scale) for scene in scenes]


def _caption(scene: Scene, rng: random.Random) -> str:
    said = caption(scene, rng)
    if rng.random() < 0.5:
        return said
    return rng.choice((f"{said}, {_TRIGGER}", f"{_TRIGGER}, {said}", f"{_TRIGGER} of {said}"))


if __name__ == "__main__":
    main()
