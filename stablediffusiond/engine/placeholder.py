"""A stand-in for the built-in model: a true Stable Diffusion in miniature with random weights. It paints noise.

``python -m stablediffusiond.engine.placeholder FOLDER`` writes it in the diffusers layout, the same bytes each time:
128 x 128 pixels, latents of 16 x 16, a byte-level tokenizer over the 256 bytes.
"""

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

_SEED: Final = 0
_WIDTH: Final = 128
_START, _END = "<|startoftext|>", "<|endoftext|>"
_CARD: Final = """# A stand-in

A Stable Diffusion pipeline in miniature with random weights. It has every part of the real thing and paints noise.
Made by `python -m stablediffusiond.engine.placeholder`.
"""


def build(folder: Path) -> None:
    """Write the model to ``folder``, as a whole or not at all; one that is there is left alone."""
    if (folder / "model_index.json").is_file():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".doodle-") as making:
        made = Path(making) / "model"
        _pipeline(Path(making)).save_pretrained(made)
        (made / "README.md").write_text(_CARD, "utf-8")
        for file in made.rglob("*.safetensors"):
            file.chmod(0o644)  # safetensors keeps them to their owner, and a service is another user
        shutil.rmtree(folder, ignore_errors=True)
        os.rename(made, folder)


def _pipeline(scratch: Path) -> Any:
    torch.manual_seed(_SEED)
    tokenizer = byte_tokenizer(scratch)
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer), hidden_size=_WIDTH, intermediate_size=4 * _WIDTH, num_hidden_layers=2,
            num_attention_heads=4, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )  # fmt: skip
    unet = UNet2DConditionModel(
        sample_size=16, block_out_channels=(64, 128, 192), layers_per_block=1, cross_attention_dim=_WIDTH,
        attention_head_dim=4, down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    )  # fmt: skip
    vae = AutoencoderKL(
        block_out_channels=(16, 32, 64, 96), layers_per_block=1, norm_num_groups=8, mid_block_add_attention=False,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4, sample_size=128,
    )  # fmt: skip
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False,
        steps_offset=1,
    )  # fmt: skip
    pipeline: Any = StableDiffusionPipeline(
        vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, unet=unet, scheduler=scheduler, safety_checker=None,
        feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    return pipeline.to(torch.float16)


def byte_tokenizer(scratch: Path) -> CLIPTokenizer:
    """Byte-level BPE without merges: every byte is a token, and has a second one for the end of a word."""
    letters = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in letters]
    symbols = [chr(byte) for byte in letters] + [chr(256 + place) for place in range(len(others))]
    words = [*symbols, *(symbol + "</w>" for symbol in symbols), _START, _END]
    (scratch / "vocab.json").write_text(json.dumps({word: place for place, word in enumerate(words)}), "utf-8")
    (scratch / "merges.txt").write_text("#version: 0.2\n", "utf-8")
    return CLIPTokenizer(str(scratch / "vocab.json"), str(scratch / "merges.txt"), model_max_length=77)


if __name__ == "__main__":
    build(Path(sys.argv[1]))
