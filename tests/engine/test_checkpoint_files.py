"""Single files as people download them: opened whole, each part with its own weights, and drawn with."""

from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch

from stablediffusiond.engine.checkpoints.families import FAMILIES, Family
from stablediffusiond.engine.models import load
from stablediffusiond.settings import ModelSettings
from tests.engine import original_layout
from tests.engine.families.parts import t5_tokenizer
from tests.engine.tiny_files import diffusers_model, network_state, same_weights, save
from tests.engine.tiny_models_in_files import (
    OLD_ONES,
    VAE,
    complaint,
    family,
    first,
    opened,
    parts_of,
    state_of,
    tiny_configs,
)

# Diffusers' own warnings, and the fixtures that a test names or that are used by all.
pytestmark = OLD_ONES
__all__ = ["first", "tiny_configs"]


@pytest.fixture
def t5_folder(tmp_path: Path) -> Path:
    t5_tokenizer().save_pretrained(tmp_path / "text/tokenizer")
    return tmp_path / "text"


def to_unprojected(encoder: Any) -> Any:
    """With the weights of a projection that changes nothing."""
    encoder.text_projection.weight.data = torch.eye(768)
    return encoder


@pytest.mark.parametrize("of", FAMILIES, ids=lambda each: each.name)
def test_every_part_of_a_file_comes_to_its_place(of: Family, tmp_path: Path, t5_folder: Path) -> None:
    parts = parts_of(of)
    file = save(state_of(of, parts), tmp_path / "model.safetensors")
    pipeline = opened(file, text_encoders=t5_folder)
    assert type(pipeline).__name__ == of.pipeline
    if of.text_encoders[0].unprojected:
        to_unprojected(parts["text_encoder"])
    for name, part in parts.items():
        assert same_weights(getattr(pipeline, name), part), name
        assert not getattr(pipeline, name).training
    for each in of.text_encoders:
        assert getattr(pipeline, each.tokenizer)("a cat").input_ids


@pytest.mark.parametrize(
    "name",
    [
        "Stable Diffusion 1.x",
        "InstructPix2Pix",
        "Stable Diffusion 1.x for inpainting",
        "Stable Diffusion 2.x",
        "Stable Diffusion XL",
        "the refiner of Stable Diffusion XL",
        "Stable Diffusion 3 medium",
        "FLUX.1 dev",
        "FLUX.1 Fill",
    ],
)
def test_pictures_are_drawn_with_a_file(name: str, tmp_path: Path, t5_folder: Path) -> None:
    of = family(name)
    file = save(state_of(of, parts_of(of)), tmp_path / "model.safetensors")
    with patch("stablediffusiond.engine.arguments.own_pixels", lambda _: (64, 64)):  # those of FLUX would be 1024
        denoiser = load(ModelSettings(name=str(file), device="cpu", text_encoders=t5_folder))
    assert (denoiser.device, denoiser.dtype) == ("cpu", "float32")
    assert denoiser.time_rows(2) > 0, "it was warmed up with a picture"


# Parts that a file lacks


def test_a_file_without_a_vae_says_what_to_do_and_takes_one_from_elsewhere(
    first: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    of = family("Stable Diffusion 1.x")
    bare = save(
        {key: each for key, each in state_of(of, first[1]).items() if not key.startswith(VAE)},
        tmp_path / "b.safetensors",
    )
    assert "has no VAE in it: write [model] vae =" in complaint(bare)
    other = diffusers_model("AutoencoderKL", of.vae, norm_num_groups=4)
    alone = save(original_layout.vae(other, ""), tmp_path / "vae.safetensors")
    assert same_weights(opened(bare, vae=str(alone)).vae, other)
    converted = save(other.state_dict(), tmp_path / "vae-diffusers.safetensors")
    assert same_weights(opened(first[0], vae=str(converted)).vae, other), "in place of the file's own"
    other.save_pretrained(tmp_path / "folder")
    assert same_weights(opened(bare, vae=str(tmp_path / "folder")).vae, other)
    assert same_weights(opened(bare, vae=str(first[0])).vae, first[1]["vae"]), "out of a whole model"


def test_a_vae_of_another_kind_is_refused(first: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    other = save(original_layout.vae(diffusers_model("AutoencoderKL", "vae-flux"), ""), tmp_path / "ae.safetensors")
    assert "ae.safetensors is for latents of 16 channels, and this model's have 4" in complaint(
        first[0], vae=str(other)
    )
    network = save(network_state(first[1]["unet"], ""), tmp_path / "unet.safetensors")
    assert "unet.safetensors is a UNet" in complaint(first[0], vae=str(network))
    assert "/none.safetensors: no such file" in complaint(first[0], vae="/none.safetensors")
    assert "holds no VAE" in complaint(first[0], vae=str(tmp_path))


def test_a_file_without_its_text_encoder_names_the_setting(first: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    state = {
        key: each for key, each in state_of(family("Stable Diffusion 1.x"), first[1]).items() if "cond_stage" not in key
    }
    bare = save(state, tmp_path / "bare.safetensors")
    assert "needs text_encoder (clip-l), which is not in it: write [model] text_encoders = FOLDER" in complaint(bare)
    (tmp_path / "text").mkdir()
    assert f"{tmp_path / 'text'}, which [model] text_encoders names, has none" in complaint(
        bare, text_encoders=tmp_path / "text"
    )
    assert "no such folder" in complaint(bare, text_encoders=tmp_path / "none")
    first[1]["text_encoder"].save_pretrained(tmp_path / "text/text_encoder")
    assert same_weights(opened(bare, text_encoders=tmp_path / "text").text_encoder, first[1]["text_encoder"])


def test_a_transformer_alone_is_completed_by_files_of_its_other_parts(tmp_path: Path) -> None:
    """FLUX.1 and SD 3.5 are published as a file of the transformer; ComfyUI keeps the others in folders of their own."""
    of = family("FLUX.1 schnell")
    parts = parts_of(of)
    bare = save(network_state(parts["transformer"], ""), tmp_path / "flux1-schnell.safetensors")
    assert "needs text_encoder (clip-l), which is not in it: write [model] text_encoders" in complaint(bare)
    folder = text_folder(tmp_path, parts)
    said = complaint(bare, text_encoders=folder)
    assert "needs tokenizer_2 (spiece.model or tokenizer.json)" in said, "too large to come with the package"
    t5_tokenizer().save_pretrained(folder)
    (folder / "t5xxl_fp16.safetensors").rename(tmp_path / "t5")
    assert f"needs text_encoder_2 (t5-xxl), which is not in it: {folder}" in complaint(bare, text_encoders=folder)
    (tmp_path / "t5").rename(folder / "t5xxl_fp16.safetensors")
    assert "has no VAE" in complaint(bare, text_encoders=folder)
    ae = save(original_layout.vae(parts["vae"], ""), tmp_path / "ae.safetensors")
    pipeline = opened(bare, vae=str(ae), text_encoders=folder)
    for name, part in parts.items():
        assert same_weights(getattr(pipeline, name), part), name


def text_folder(folder: Path, parts: dict[str, Any]) -> Path:
    """As ComfyUI has them."""
    made = folder / "text"
    save(original_layout.transformers_layout(parts["text_encoder"], ""), made / "clip_l.safetensors")
    save(original_layout.transformers_layout(parts["text_encoder_2"], ""), made / "t5xxl_fp16.safetensors")
    return made


def test_stable_diffusion_3_does_without_t5_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    of = family("Stable Diffusion 3 medium")
    state = {key: each for key, each in state_of(of, parts_of(of)).items() if "t5xxl" not in key}
    pipeline = opened(save(state, tmp_path / "sd3_incl_clips.safetensors"))
    assert pipeline.text_encoder_3 is None
    assert "text_encoder_3 (t5-xxl) is not in it: prompts are read without" in caplog.text
