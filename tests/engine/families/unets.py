"""Models whose denoiser is a UNet: Stable Diffusion 1, 2, XL, and what was made of them."""

from pathlib import Path
from typing import Any, Final

import diffusers

from tests.engine.families.parts import clip, vae

Pipeline = Any

_NOISE: Final = {
    "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False,
    "set_alpha_to_one": False, "steps_offset": 1,
}  # fmt: skip
_NO_CHECKER: Final = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}


def _unet(**config: Any) -> Any:
    layout: dict[str, Any] = {
        "sample_size": 8, "block_out_channels": (32, 64), "layers_per_block": 1, "cross_attention_dim": 32,
        "attention_head_dim": 8, "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    }  # fmt: skip
    unet: Any = diffusers.UNet2DConditionModel(**{**layout, **config})
    return unet


def stable_diffusion(scratch: Path, *, width: int = 32, prediction_type: str = "epsilon", **unet: Any) -> Pipeline:
    tokenizer, encoder = clip(scratch, width=width)
    return diffusers.StableDiffusionPipeline(
        vae=vae(), text_encoder=encoder, tokenizer=tokenizer, unet=_unet(cross_attention_dim=width, **unet),
        scheduler=diffusers.DDIMScheduler(**_NOISE, prediction_type=prediction_type), **_NO_CHECKER,
    )  # fmt: skip


def stable_diffusion_2(scratch: Path) -> Pipeline:
    return stable_diffusion(scratch, width=64, use_linear_projection=True)


def stable_diffusion_2_v(scratch: Path) -> Pipeline:
    return stable_diffusion(scratch, width=64, prediction_type="v_prediction", use_linear_projection=True)


def stable_diffusion_xl(scratch: Path) -> Pipeline:
    (tokenizer, encoder), (tokenizer_2, encoder_2) = clip(scratch), clip(scratch, projection=True)
    unet = _unet(
        cross_attention_dim=64, attention_head_dim=(2, 4), transformer_layers_per_block=(1, 2),
        use_linear_projection=True, addition_embed_type="text_time", addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=80,
    )  # fmt: skip
    noise = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
    return diffusers.StableDiffusionXLPipeline(
        vae=vae(), text_encoder=encoder, tokenizer=tokenizer, text_encoder_2=encoder_2, tokenizer_2=tokenizer_2,
        unet=unet, scheduler=diffusers.EulerDiscreteScheduler(**noise, timestep_spacing="leading"), add_watermarker=False,
    )  # fmt: skip


def _made_of(kind: Any, scratch: Path, scheduler: Any = None, **unet: Any) -> Pipeline:
    """A model of another class of Stable Diffusion 1's."""
    tokenizer, encoder = clip(scratch)
    return kind(
        vae=vae(), text_encoder=encoder, tokenizer=tokenizer, unet=_unet(**unet),
        scheduler=scheduler or diffusers.DDIMScheduler(**_NOISE), **_NO_CHECKER,
    )  # fmt: skip


def stable_diffusion_inpainting(scratch: Path) -> Pipeline:
    return _made_of(diffusers.StableDiffusionInpaintPipeline, scratch, in_channels=9, out_channels=4)


def instruct_pix2pix(scratch: Path) -> Pipeline:
    return _made_of(diffusers.StableDiffusionInstructPix2PixPipeline, scratch, in_channels=8, out_channels=4)


def latent_consistency(scratch: Path) -> Pipeline:
    scheduler = diffusers.LCMScheduler(**_NOISE)
    return _made_of(diffusers.LatentConsistencyModelPipeline, scratch, scheduler, time_cond_proj_dim=16)


def stable_diffusion_xl_refiner(scratch: Path) -> Pipeline:
    tokenizer, encoder = clip(scratch, projection=True)
    unet = _unet(
        attention_head_dim=(2, 4), transformer_layers_per_block=(1, 2), use_linear_projection=True,
        addition_embed_type="text_time", addition_time_embed_dim=8, projection_class_embeddings_input_dim=72,
    )  # fmt: skip
    noise = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
    return diffusers.StableDiffusionXLImg2ImgPipeline(
        vae=vae(), text_encoder=None, tokenizer=None, text_encoder_2=encoder, tokenizer_2=tokenizer, unet=unet,
        scheduler=diffusers.EulerDiscreteScheduler(**noise, timestep_spacing="leading"), add_watermarker=False,
        requires_aesthetics_score=True,
    )  # fmt: skip


def stable_diffusion_xl_turbo(scratch: Path) -> Pipeline:
    pipeline = stable_diffusion_xl(scratch)
    noise = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
    pipeline.scheduler = diffusers.EulerAncestralDiscreteScheduler(**noise, timestep_spacing="trailing")
    return pipeline
