"""Trains the ControlNet ``outline``: ``python -m tools.train_doodle.controlnet --work build/doodle``.

It looks at white lines on black, and has the exported model draw along them. Its drawings are of any size and at any
place, and their captions say neither: where the subject is, only the outline tells.
"""

import dataclasses
import random
from typing import Final

import numpy as np
import torch
from diffusers import ControlNetModel
from PIL import Image

from stablediffusiond.engine.beside_model import FOLDER
from tools.train_doodle.captions import caption
from tools.train_doodle.drawing import draw
from tools.train_doodle.exported import load, options
from tools.train_doodle.latents import encoded
from tools.train_doodle.muon import optimizers
from tools.train_doodle.networks import Network
from tools.train_doodle.outlines import outline
from tools.train_doodle.scenes import Scene, any_scene
from tools.train_doodle.training import Run, seeded
from tools.train_doodle.unet import velocity_loss

NAME: Final = "outline"
_MATRIX_RATE, _OTHER_RATE = 0.006, 1e-3
#: Half the height of a subject, as a share of the picture's.
_SMALLEST, _LARGEST = 0.18, 0.42
_MARGIN: Final = 0.03


def main() -> None:
    folder = FOLDER / "controlnets"
    chosen = options(__doc__, output=folder, count=3_000, counted="drawings", steps=900, batch=24).parse_args()

    torch.manual_seed(0)
    model = load(chosen)
    scenes, pictures = _drawings(chosen.count)
    outlines = torch.stack([_seen(picture) for picture in pictures])
    latents = encoded(model.autoencoder, pictures, model.device)
    network = beside(model.unet).to(model.device)
    both = optimizers(network, matrix_rate=_MATRIX_RATE, other_rate=_OTHER_RATE)
    run = Run(chosen.work / f"{NAME}.pt", chosen.steps, both, {"network": network}, warm_up_steps=50)
    for step in run.go():
        rng = seeded(NAME, step)
        places = [rng.randrange(len(scenes)) for _ in range(chosen.batch)]
        said = model.words.read([caption(scenes[place], rng) for place in places])
        lines = outlines[places].to(model.device).float()
        loss = velocity_loss(_Controlled(model.unet, network, lines), latents[places].to(model.device), said)
        run.update(loss, {"velocity": loss})
    network.to(torch.float16).save_pretrained(chosen.output / NAME)
    for file in (chosen.output / NAME).glob("*.safetensors"):
        file.chmod(0o644)  # safetensors keeps them to their owner, and a service is another user


class _Controlled:
    """The UNet, called with what the ControlNet makes of ``lines``, (n, 3, height, width) from 0 to 1."""

    def __init__(self, unet: Network, network: Network, lines: torch.Tensor) -> None:
        self._unet, self._network, self._lines = unet, network, lines

    def __call__(self, noisy: torch.Tensor, timesteps: torch.Tensor, words: torch.Tensor) -> Network:
        down, middle = self._network(noisy, timesteps, words, self._lines, return_dict=False)
        return self._unet(
            noisy, timesteps, words, down_block_additional_residuals=down, mid_block_additional_residual=middle
        )


def beside(unet: Network) -> Network:
    """A ControlNet that begins as the UNet's first half, without its attention: lines need no words, and it is half."""
    shape = unet.config
    network: Network = ControlNetModel(
        in_channels=shape.in_channels, down_block_types=("DownBlock2D",) * len(shape.block_out_channels),
        mid_block_type="UNetMidBlock2D", block_out_channels=shape.block_out_channels,
        layers_per_block=shape.layers_per_block, norm_num_groups=shape.norm_num_groups,
        cross_attention_dim=shape.cross_attention_dim, attention_head_dim=shape.attention_head_dim,
        conditioning_embedding_out_channels=(16, 32, 48, 64),
    )  # fmt: skip
    own = network.state_dict()
    taken = {name: value for name, value in unet.state_dict().items() if name in own and own[name].shape == value.shape}
    network.load_state_dict(own | taken)
    return network


def anywhere(rng: random.Random) -> Scene:
    """A scene whose caption says neither where its subject is nor how large."""
    scene, radius = any_scene(rng), rng.uniform(_SMALLEST, _LARGEST)
    free = 0.5 - _MARGIN - radius
    x, y = (0.5 + rng.uniform(-free, free) for _ in "xy")
    return dataclasses.replace(scene, size="normal", place="middle", x=x, y=y, radius=radius)


def _drawings(count: int) -> tuple[list[Scene], list[Image.Image]]:
    rng = random.Random(NAME)
    scenes = [anywhere(rng) for _ in range(count)]
    return scenes, [draw(scene, rng) for scene in scenes]


def _seen(picture: Image.Image) -> torch.Tensor:
    """The outline as the ControlNet sees it: (3, height, width), 0 or 1, kept in bytes."""
    return torch.from_numpy(np.array(outline(picture)) // 255).permute(2, 0, 1).contiguous()


if __name__ == "__main__":
    main()
