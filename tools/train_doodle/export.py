"""Puts the trained networks together: ``python -m tools.train_doodle.export --work build/doodle --output FOLDER``.

A diffusers folder in half precision. What else lies in the folder (the model card, the samples) is left alone.
"""

import argparse
from pathlib import Path

import torch
from transformers import CLIPTextModel

from stablediffusiond.engine.models import BUILT_IN
from tools.train_doodle.networks import assemble, load_autoencoder
from tools.train_doodle.tokenizer import load_tokenizer
from tools.train_doodle.unet import load_average


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--work", type=Path, default=Path("build/doodle"))
    options.add_argument("--output", type=Path, default=BUILT_IN)
    chosen = options.parse_args()
    pipeline = assemble(
        load_tokenizer(chosen.work / "tokenizer"),
        CLIPTextModel.from_pretrained(chosen.work / "text_encoder"),
        load_average(chosen.work),
        load_autoencoder(chosen.work / "vae"),
    )
    pipeline.to(torch.float16).save_pretrained(chosen.output)
    for file in chosen.output.rglob("*.safetensors"):
        file.chmod(0o644)  # safetensors keeps them to their owner, and a service is another user


if __name__ == "__main__":
    main()
