"""Models whose denoiser is a transformer."""

from pathlib import Path
from typing import Any

import diffusers
from diffusers.pipelines.flux import pipeline_flux_kontext, pipeline_flux_kontext_inpaint
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen3Config, Qwen3ForCausalLM, Qwen3Model

from tests.engine.families.parts import byte_level_tokenizer, clip, flow_vae, gemma, t5, umt5, vae

Pipeline = Any


def stable_diffusion_3(scratch: Path) -> Pipeline:
    clips = [clip(scratch, projection=True) for _ in range(2)]
    tokenizer_3, encoder_3 = t5(64)
    transformer = diffusers.SD3Transformer2DModel(
        sample_size=8, patch_size=2, in_channels=16, num_layers=2, attention_head_dim=8, num_attention_heads=4,
        joint_attention_dim=64, caption_projection_dim=32, pooled_projection_dim=64, out_channels=16,
        pos_embed_max_size=96,
    )  # fmt: skip
    return diffusers.StableDiffusion3Pipeline(
        transformer=transformer, scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0), vae=flow_vae(),
        tokenizer=clips[0][0], text_encoder=clips[0][1], tokenizer_2=clips[1][0], text_encoder_2=clips[1][1],
        tokenizer_3=tokenizer_3, text_encoder_3=encoder_3,
    )  # fmt: skip


def flux(scratch: Path, kind: Any = diffusers.FluxPipeline, *, guidance: bool = True, **config: Any) -> Pipeline:
    (tokenizer, encoder), (tokenizer_2, encoder_2) = clip(scratch), t5(32)
    transformer = diffusers.FluxTransformer2DModel(
        patch_size=1, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=32, pooled_projection_dim=32, guidance_embeds=guidance, axes_dims_rope=(4, 4, 8),
        **{"in_channels": 64, **config},
    )  # fmt: skip
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=guidance, shift=3.0 if guidance else 1.0)
    return kind(
        transformer=transformer, scheduler=scheduler, vae=flow_vae(), text_encoder=encoder, tokenizer=tokenizer,
        text_encoder_2=encoder_2, tokenizer_2=tokenizer_2,
    )  # fmt: skip


def chroma(_: Path) -> Pipeline:
    tokenizer, encoder = t5(32)
    transformer = diffusers.ChromaTransformer2DModel(
        in_channels=64, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=32, axes_dims_rope=(4, 4, 8), approximator_num_channels=8, approximator_hidden_dim=32,
        approximator_layers=1,
    )  # fmt: skip
    return diffusers.ChromaPipeline(
        diffusers.FlowMatchEulerDiscreteScheduler(), flow_vae(), encoder, tokenizer, transformer
    )


def pixart(_: Path) -> Pipeline:
    tokenizer, encoder = t5(32)
    transformer = diffusers.PixArtTransformer2DModel(
        sample_size=8, num_layers=2, patch_size=2, attention_head_dim=8, num_attention_heads=3, caption_channels=32,
        in_channels=4, cross_attention_dim=24, out_channels=8, norm_type="ada_norm_single", use_additional_conditions=False,
    )  # fmt: skip
    return diffusers.PixArtAlphaPipeline(
        tokenizer, encoder, vae(), transformer, diffusers.DPMSolverMultistepScheduler()
    )


def flux_fill(scratch: Path) -> Pipeline:
    return flux(scratch, diffusers.FluxFillPipeline, in_channels=384, out_channels=64)


def flux_kontext(scratch: Path) -> Pipeline:
    for each in (pipeline_flux_kontext, pipeline_flux_kontext_inpaint):
        vars(each)["PREFERRED_KONTEXT_RESOLUTIONS"] = [(64, 64)]  # it enlarges what it edits to the sizes it was trained with
    return flux(scratch, diffusers.FluxKontextPipeline)


def _qwen3(width: int, layers: int) -> dict[str, Any]:
    tokenizer = byte_level_tokenizer()
    config = Qwen3Config(
        vocab_size=len(tokenizer), hidden_size=width, intermediate_size=32, num_hidden_layers=layers,
        num_attention_heads=2, num_key_value_heads=2, head_dim=8, max_position_embeddings=1024,
    )  # fmt: skip
    return {"tokenizer": tokenizer, "config": config}


def flux_2_klein(_: Path) -> Pipeline:
    encoder = _qwen3(16, 28)  # it takes what three layers of 28 say
    transformer = diffusers.Flux2Transformer2DModel(
        in_channels=128, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=48, axes_dims_rope=(4, 4, 4, 4), guidance_embeds=False, timestep_guidance_channels=32,
    )  # fmt: skip
    autoencoder = diffusers.AutoencoderKLFlux2(
        block_out_channels=(16, 32, 32, 32), layers_per_block=1, norm_num_groups=8, latent_channels=32,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        mid_block_add_attention=False, sample_size=64,
    )  # fmt: skip
    return diffusers.Flux2KleinPipeline(
        diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True), autoencoder,
        Qwen3ForCausalLM(encoder["config"]), encoder["tokenizer"], transformer,
    )  # fmt: skip


def z_image(_: Path) -> Pipeline:
    encoder = _qwen3(32, 2)
    transformer = diffusers.ZImageTransformer2DModel(
        in_channels=16, dim=64, n_layers=2, n_refiner_layers=1, n_heads=2, n_kv_heads=2, cap_feat_dim=32,
        axes_dims=[8, 12, 12],
    )  # fmt: skip
    return diffusers.ZImagePipeline(
        diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0), flow_vae(), Qwen3Model(encoder["config"]),
        encoder["tokenizer"], transformer,
    )  # fmt: skip


def qwen_image(_: Path) -> Pipeline:
    tokenizer = byte_level_tokenizer()
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "num_hidden_layers": 2}
    rope = {"mrope_section": [2, 1, 1], "rope_type": "default", "rope_theta": 1000000.0}
    config = Qwen2_5_VLConfig(
        text_config={
            "hidden_size": 16, "intermediate_size": 16, "vocab_size": len(tokenizer), "rope_parameters": rope, **heads,
            "max_position_embeddings": 1024,
        },
        vision_config={"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16},
    )  # fmt: skip
    transformer = diffusers.QwenImageTransformer2DModel(
        in_channels=16, out_channels=4, num_layers=2, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=16, axes_dims_rope=(4, 6, 6),
    )  # fmt: skip
    autoencoder = diffusers.AutoencoderKLQwenImage(
        base_dim=24, z_dim=4, dim_mult=[1, 2, 4, 4], num_res_blocks=1, temperal_downsample=[False, True, True],
        latents_mean=[0.1, -0.1, 0.2, 0.0], latents_std=[1.1, 0.9, 1.0, 1.2],
    )  # fmt: skip
    return diffusers.QwenImagePipeline(
        diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True), autoencoder,
        Qwen2_5_VLForConditionalGeneration(config), tokenizer, transformer,
    )  # fmt: skip


def lumina_2(_: Path) -> Pipeline:
    tokenizer, encoder = gemma(16)
    transformer = diffusers.Lumina2Transformer2DModel(
        sample_size=8, in_channels=16, hidden_size=48, num_layers=2, num_refiner_layers=1, num_attention_heads=2,
        num_kv_heads=1, multiple_of=16, axes_dim_rope=(8, 8, 8), axes_lens=(512, 32, 32), cap_feat_dim=16,
    )  # fmt: skip
    return diffusers.Lumina2Pipeline(
        transformer, diffusers.FlowMatchEulerDiscreteScheduler(shift=6.0), flow_vae(), encoder, tokenizer
    )


def sana(_: Path) -> Pipeline:
    tokenizer, encoder = gemma(16)
    transformer = diffusers.SanaTransformer2DModel(
        in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=16, num_layers=2,
        num_cross_attention_heads=2, cross_attention_head_dim=16, cross_attention_dim=32, caption_channels=16,
        sample_size=8,
    )  # fmt: skip
    blocks = ("ResBlock", "ResBlock", "ResBlock", "EfficientViTBlock")
    autoencoder = diffusers.AutoencoderDC(
        in_channels=3, latent_channels=4, attention_head_dim=2, encoder_block_types=blocks, decoder_block_types=blocks,
        encoder_block_out_channels=(8, 8, 8, 8), decoder_block_out_channels=(8, 8, 8, 8),
        encoder_qkv_multiscales=((), (), (), (5,)), decoder_qkv_multiscales=((), (), (), (5,)),
        encoder_layers_per_block=(1, 1, 1, 1), decoder_layers_per_block=(1, 1, 1, 1), downsample_block_type="conv",
        upsample_block_type="interpolate", decoder_norm_types="rms_norm", decoder_act_fns="silu", scaling_factor=0.41407,
    )  # fmt: skip
    scheduler = diffusers.DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    )
    return diffusers.SanaPipeline(tokenizer, encoder, autoencoder, transformer, scheduler)


def aura_flow(_: Path) -> Pipeline:
    tokenizer, encoder = umt5(32)
    transformer = diffusers.AuraFlowTransformer2DModel(
        sample_size=8, patch_size=2, in_channels=4, num_mmdit_layers=1, num_single_dit_layers=1, attention_head_dim=8,
        num_attention_heads=4, caption_projection_dim=32, joint_attention_dim=32, out_channels=4, pos_embed_max_size=256,
    )  # fmt: skip
    return diffusers.AuraFlowPipeline(
        tokenizer, encoder, vae(), transformer, diffusers.FlowMatchEulerDiscreteScheduler(shift=1.73)
    )
