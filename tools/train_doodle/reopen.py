"""Takes an exported model apart again, to train on: ``python -m tools.train_doodle.reopen --work build/doodle``.

Afterwards `latents` encodes drawings with its autoencoder, and ``unet --begin-with build/doodle/unet`` goes on from its
UNet: the way to make a model better on another machine, or another day, than the one it was begun on.
"""

import argparse
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel

from stablediffusiond.engine.models import BUILT_IN
from tools.train_doodle.networks import Network
from tools.train_doodle.tokenizer import unpack_tokenizer


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--work", type=Path, default=Path("build/doodle"))
    options.add_argument("--model", type=Path, default=BUILT_IN)
    chosen = options.parse_args()
    if chosen.work.exists():
        raise SystemExit(f"{chosen.work} is there already, with checkpoints of its own; name another with --work")
    unpack_tokenizer(chosen.model / "tokenizer" / "tokenizer.json", chosen.work / "tokenizer")
    for part, kind in (("vae", AutoencoderKL), ("unet", UNet2DConditionModel), ("text_encoder", CLIPTextModel)):
        network: Network = kind.from_pretrained(chosen.model / part)
        network.to(torch.float32).save_pretrained(chosen.work / part)


if __name__ == "__main__":
    main()
