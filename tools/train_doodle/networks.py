"""The four networks' shapes: what is in the diffusers folder in the end."""

from pathlib import Path
from typing import Any, Final

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

#: Models and pipelines of diffusers and transformers, whose own types do not say what they can do.
Network = Any

#: Pixels of the pictures that the model is made for, and of the others that it also learns.
PIXELS: Final = 128
OTHER_PIXELS: Final = (96, 160, 192)
#: Pixels to one latent, each way, as in Stable Diffusion.
VAE_FACTOR: Final = 8
#: Twice Stable Diffusion's: a hard edge between two flat colours takes more numbers than a texture.
LATENT_CHANNELS: Final = 8
TEXT_WIDTH: Final = 128


def build_autoencoder() -> Network:
    return AutoencoderKL(
        block_out_channels=(16, 32, 48, 64), layers_per_block=1, norm_num_groups=8, mid_block_add_attention=False,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4, sample_size=PIXELS,
        latent_channels=LATENT_CHANNELS,
    )  # fmt: skip


def build_text_encoder(tokenizer: CLIPTokenizer) -> Network:
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer), hidden_size=TEXT_WIDTH, intermediate_size=2 * TEXT_WIDTH, num_hidden_layers=2,
            num_attention_heads=4, max_position_embeddings=tokenizer.model_max_length,
            bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )  # fmt: skip


def build_unet() -> Network:
    """Attention at 8 x 8 only: at 16 x 16 it costs as much as everything else, and adds nothing to such pictures."""
    return UNet2DConditionModel(
        sample_size=PIXELS // VAE_FACTOR, in_channels=LATENT_CHANNELS, out_channels=LATENT_CHANNELS,
        block_out_channels=(64, 112), layers_per_block=1, cross_attention_dim=TEXT_WIDTH, attention_head_dim=4,
        norm_num_groups=16, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip


def build_scheduler() -> Network:
    """Noisier at its end than Stable Diffusion's: nothing of a ground's colour is left in the first step's input."""
    return DDIMScheduler(
        beta_start=0.00085, beta_end=0.02, beta_schedule="scaled_linear", prediction_type="v_prediction",
        clip_sample=False, set_alpha_to_one=False, steps_offset=1, timestep_spacing="leading",
    )  # fmt: skip


def tokens(tokenizer: CLIPTokenizer, texts: list[str]) -> torch.Tensor:
    """Token ids (n, 77), padded as the pipelines pad."""
    ids: torch.Tensor = tokenizer(
        texts, padding="max_length", max_length=tokenizer.model_max_length, truncation=True, return_tensors="pt"
    ).input_ids
    return ids


def assemble(tokenizer: CLIPTokenizer, text_encoder: Network, unet: Network, autoencoder: Network) -> Network:
    """The Stable Diffusion pipeline of these networks."""
    return StableDiffusionPipeline(
        vae=autoencoder, text_encoder=text_encoder, tokenizer=tokenizer, unet=unet, scheduler=build_scheduler(),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


def choose_device(name: str) -> torch.device:
    return torch.device("cuda" if name == "auto" and torch.cuda.is_available() else name.replace("auto", "cpu"))


def in_bfloat16(device: torch.device, *, wanted: bool = True) -> torch.autocast:
    """Compute in half precision where the device can: a CPU without instructions for it takes sixteen times as long."""
    can = device.type != "cpu" or any(torch.cpu.get_capabilities().get(name) for name in ("amx_bf16", "avx512_bf16"))
    return torch.autocast(device.type, torch.bfloat16, enabled=wanted and can)


def load_autoencoder(folder: Path) -> Network:
    return AutoencoderKL.from_pretrained(folder).eval()
