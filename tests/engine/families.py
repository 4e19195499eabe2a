"""One tiny model with random weights for each family: 64 x 64 pixels, float32, made to be saved as a folder."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import diffusers
import torch
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

from tests.engine.tiny_models import byte_tokenizer

Pipeline = Any
Make = Callable[[Path], Pipeline]

_NOISE: Final = {
    "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False,
    "set_alpha_to_one": False, "steps_offset": 1,
}  # fmt: skip


def t5_tokenizer() -> Any:
    """Every letter is a token."""
    letters = [(chr(code), -3.0) for code in range(33, 127)]
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), *letters]
    return T5Tokenizer(vocab=vocabulary, extra_ids=0, model_max_length=512)


def _clip(scratch: Path, *, projection: bool = False, width: int = 32) -> tuple[CLIPTokenizer, torch.nn.Module]:
    tokenizer = byte_tokenizer(scratch)
    config = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=width, intermediate_size=37, num_hidden_layers=3, num_attention_heads=4,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
        projection_dim=width, hidden_act="gelu",
    )  # fmt: skip
    return tokenizer, (CLIPTextModelWithProjection if projection else CLIPTextModel)(config)


def _t5(width: int) -> tuple[Any, torch.nn.Module]:
    tokenizer = t5_tokenizer()
    config = T5Config(vocab_size=len(tokenizer) + 2, d_model=width, d_kv=8, d_ff=37, num_layers=2, num_heads=4)
    return tokenizer, T5EncoderModel(config)


def _vae(channels: int = 4, **config: Any) -> Any:
    vae: Any = diffusers.AutoencoderKL(
        block_out_channels=(16, 32, 32, 32), layers_per_block=1, norm_num_groups=8, mid_block_add_attention=False,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4, sample_size=64,
        latent_channels=channels, **config,
    )  # fmt: skip
    return vae


def _flow_vae() -> Any:
    return _vae(16, shift_factor=0.1159, scaling_factor=0.3611, use_quant_conv=False, use_post_quant_conv=False)


def _unet(**config: Any) -> Any:
    layout: dict[str, Any] = {
        "sample_size": 8, "block_out_channels": (32, 64), "layers_per_block": 1, "cross_attention_dim": 32,
        "attention_head_dim": 8, "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    }  # fmt: skip
    unet: Any = diffusers.UNet2DConditionModel(**{**layout, **config})
    return unet


def stable_diffusion(scratch: Path, *, width: int = 32, prediction_type: str = "epsilon", **unet: Any) -> Pipeline:
    tokenizer, encoder = _clip(scratch, width=width)
    return diffusers.StableDiffusionPipeline(
        vae=_vae(), text_encoder=encoder, tokenizer=tokenizer, unet=_unet(cross_attention_dim=width, **unet),
        scheduler=diffusers.DDIMScheduler(**_NOISE, prediction_type=prediction_type), safety_checker=None,
        feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


def stable_diffusion_2_v(scratch: Path) -> Pipeline:
    return stable_diffusion(scratch, width=64, prediction_type="v_prediction", use_linear_projection=True)


def stable_diffusion_xl(scratch: Path) -> Pipeline:
    (tokenizer, encoder), (tokenizer_2, encoder_2) = _clip(scratch), _clip(scratch, projection=True)
    unet = _unet(
        cross_attention_dim=64, attention_head_dim=(2, 4), transformer_layers_per_block=(1, 2),
        use_linear_projection=True, addition_embed_type="text_time", addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=80,
    )  # fmt: skip
    noise = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
    return diffusers.StableDiffusionXLPipeline(
        vae=_vae(), text_encoder=encoder, tokenizer=tokenizer, text_encoder_2=encoder_2, tokenizer_2=tokenizer_2,
        unet=unet, scheduler=diffusers.EulerDiscreteScheduler(**noise, timestep_spacing="leading"), add_watermarker=False,
    )  # fmt: skip


def stable_diffusion_3(scratch: Path) -> Pipeline:
    clips = [_clip(scratch, projection=True) for _ in range(2)]
    tokenizer_3, encoder_3 = _t5(64)
    transformer = diffusers.SD3Transformer2DModel(
        sample_size=8, patch_size=2, in_channels=16, num_layers=2, attention_head_dim=8, num_attention_heads=4,
        joint_attention_dim=64, caption_projection_dim=32, pooled_projection_dim=64, out_channels=16,
        pos_embed_max_size=96,
    )  # fmt: skip
    return diffusers.StableDiffusion3Pipeline(
        transformer=transformer, scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0), vae=_flow_vae(),
        tokenizer=clips[0][0], text_encoder=clips[0][1], tokenizer_2=clips[1][0], text_encoder_2=clips[1][1],
        tokenizer_3=tokenizer_3, text_encoder_3=encoder_3,
    )  # fmt: skip


def flux(scratch: Path, *, guidance: bool = True) -> Pipeline:
    (tokenizer, encoder), (tokenizer_2, encoder_2) = _clip(scratch), _t5(32)
    transformer = diffusers.FluxTransformer2DModel(
        patch_size=1, in_channels=64, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=32, pooled_projection_dim=32, guidance_embeds=guidance, axes_dims_rope=(4, 4, 8),
    )  # fmt: skip
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=guidance, shift=3.0 if guidance else 1.0)
    return diffusers.FluxPipeline(
        transformer=transformer, scheduler=scheduler, vae=_flow_vae(), text_encoder=encoder, tokenizer=tokenizer,
        text_encoder_2=encoder_2, tokenizer_2=tokenizer_2,
    )  # fmt: skip


def chroma(_: Path) -> Pipeline:
    tokenizer, encoder = _t5(32)
    transformer = diffusers.ChromaTransformer2DModel(
        in_channels=64, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=32, axes_dims_rope=(4, 4, 8), approximator_num_channels=8, approximator_hidden_dim=32,
        approximator_layers=1,
    )  # fmt: skip
    return diffusers.ChromaPipeline(
        diffusers.FlowMatchEulerDiscreteScheduler(), _flow_vae(), encoder, tokenizer, transformer
    )


def pixart(_: Path) -> Pipeline:
    tokenizer, encoder = _t5(32)
    transformer = diffusers.PixArtTransformer2DModel(
        sample_size=8, num_layers=2, patch_size=2, attention_head_dim=8, num_attention_heads=3, caption_channels=32,
        in_channels=4, cross_attention_dim=24, out_channels=8, norm_type="ada_norm_single", use_additional_conditions=False,
    )  # fmt: skip
    return diffusers.PixArtAlphaPipeline(
        tokenizer, encoder, _vae(), transformer, diffusers.DPMSolverMultistepScheduler()
    )


FAMILIES: Final[dict[str, Make]] = {
    "Stable Diffusion 1": stable_diffusion,
    "Stable Diffusion 2 v": stable_diffusion_2_v,
    "Stable Diffusion XL": stable_diffusion_xl,
    "Stable Diffusion 3": stable_diffusion_3,
    "FLUX.1 dev": flux,
    "FLUX.1 schnell": lambda scratch: flux(scratch, guidance=False),
    "Chroma": chroma,
    "PixArt": pixart,
}


def save(family: str, folder: Path) -> Path:
    """The model of ``family`` as a folder that ``[model] name`` may name."""
    torch.manual_seed(0)
    scratch = folder / "scratch"
    scratch.mkdir(parents=True)
    pipeline = FAMILIES[family](scratch)
    for module in pipeline.components.values():
        if isinstance(module, torch.nn.Module):
            for parameter in module.parameters():
                if not parameter.abs().sum():  # gates that are born zero would let nothing through
                    torch.nn.init.normal_(parameter, std=0.05)
    pipeline.save_pretrained(folder / "model")
    return folder / "model"
