"""Models at full size with random weights: what they cost without a download, not what they draw.

Text encoders are small but for their widths: what is measured is the network that makes the steps, and the VAE.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import diffusers
import torch
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, T5Config, T5EncoderModel

from tests.engine.families.parts import t5_tokenizer
from tests.engine.tiny_models import byte_tokenizer, tiny_pipeline

Pipeline = Any

_NOISE: Final = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
_VAE: Final[dict[str, Any]] = {
    "block_out_channels": (128, 256, 512, 512), "layers_per_block": 2,
    "down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4,
}  # fmt: skip
_NO_CHECKER: Final = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}


def _clip(scratch: Path, width: int, kind: Any = CLIPTextModel) -> tuple[Any, Any]:
    tokenizer = byte_tokenizer(scratch)
    config = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=width, intermediate_size=width, num_attention_heads=4,
        num_hidden_layers=2, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id, projection_dim=width,
    )  # fmt: skip
    return tokenizer, kind(config)


def stable_diffusion_1(scratch: Path) -> Pipeline:
    tokenizer, encoder = _clip(scratch, 768)
    return diffusers.StableDiffusionPipeline(
        vae=diffusers.AutoencoderKL(**_VAE, sample_size=512), text_encoder=encoder, tokenizer=tokenizer,
        unet=diffusers.UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8),
        scheduler=diffusers.DDIMScheduler(**_NOISE, clip_sample=False, set_alpha_to_one=False), **_NO_CHECKER,
    )  # fmt: skip


def stable_diffusion_xl(scratch: Path) -> Pipeline:
    tokenizer, encoder = _clip(scratch, 768)
    tokenizer_2, encoder_2 = _clip(scratch, 1280, CLIPTextModelWithProjection)
    unet = diffusers.UNet2DConditionModel(
        sample_size=128, block_out_channels=(320, 640, 1280), transformer_layers_per_block=(1, 2, 10),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), attention_head_dim=(5, 10, 20),
        cross_attention_dim=2048, use_linear_projection=True, addition_embed_type="text_time",
        addition_time_embed_dim=256, projection_class_embeddings_input_dim=2816,
    )  # fmt: skip
    return diffusers.StableDiffusionXLPipeline(
        vae=diffusers.AutoencoderKL(**_VAE, sample_size=1024, scaling_factor=0.13025, force_upcast=True), unet=unet,
        text_encoder=encoder, tokenizer=tokenizer, text_encoder_2=encoder_2, tokenizer_2=tokenizer_2,
        scheduler=diffusers.EulerDiscreteScheduler(**_NOISE, timestep_spacing="leading"), add_watermarker=False,
    )  # fmt: skip


def flux_schnell(scratch: Path) -> Pipeline:
    tokenizer, encoder = _clip(scratch, 768)
    tokenizer_2 = t5_tokenizer()
    t5 = T5Config(vocab_size=len(tokenizer_2) + 2, d_model=4096, d_kv=64, d_ff=4096, num_layers=2, num_heads=64)
    vae = diffusers.AutoencoderKL(
        **_VAE, sample_size=1024, latent_channels=16, shift_factor=0.1159, scaling_factor=0.3611,
        use_quant_conv=False, use_post_quant_conv=False,
    )  # fmt: skip
    return diffusers.FluxPipeline(
        transformer=diffusers.FluxTransformer2DModel(), scheduler=diffusers.FlowMatchEulerDiscreteScheduler(), vae=vae,
        text_encoder=encoder, tokenizer=tokenizer, text_encoder_2=T5EncoderModel(t5), tokenizer_2=tokenizer_2,
    )  # fmt: skip


MODELS: Final[dict[str, tuple[Callable[[Path], Pipeline], torch.dtype]]] = {
    "sd15": (stable_diffusion_1, torch.float16),
    "sdxl": (stable_diffusion_xl, torch.float16),
    "flux": (flux_schnell, torch.bfloat16),
    "tiny": (tiny_pipeline, torch.float16),
}


def random_pipeline(name: str, device: torch.device) -> Pipeline:
    """The pipeline ``name``, on ``device``; half precision on a GPU, as there the service has it."""
    make, dtype = MODELS[name]
    if device.type == "cpu":
        dtype = torch.float32
    torch.manual_seed(0)
    torch.set_default_dtype(dtype)  # so that a large model is never there in float32
    try:
        with tempfile.TemporaryDirectory() as folder, torch.device(device):
            pipeline = make(Path(folder))
    finally:
        torch.set_default_dtype(torch.float32)
    pipeline.scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config)  # its tables in host memory
    for module in pipeline.components.values():
        if isinstance(module, torch.nn.Module):
            module.eval()
    pipeline.to(device, dtype)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
