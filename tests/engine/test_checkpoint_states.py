"""Single files whose weights are in another state, and what is said of a file beside its weights."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from stablediffusiond.engine.checkpoints import recognition, single_file
from tests.engine.tiny_files import diffusers_model, same_weights, save
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


# Weights in other states


def test_averaged_weights_go_before_those_of_the_training(first: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    state = state_of(family("Stable Diffusion 1.x"), first[1])
    network = {key: each for key, each in state.items() if key.startswith("model.")}
    averaged = {"model_ema." + key.removeprefix("model.").replace(".", ""): each + 1 for key, each in network.items()}
    file = save(
        state | averaged | {"model_ema.decay": torch.tensor(0.9)}, tmp_path / "pruned.safetensors", torch.float32
    )
    assert torch.equal(opened(file).unet.conv_in.bias, first[1]["unet"].conv_in.bias + 1)


def test_weights_in_fp8_are_cast_up(first: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    of = family("Stable Diffusion 1.x")
    unet = opened(save(state_of(of, first[1]), tmp_path / "fp8.safetensors", torch.float8_e4m3fn)).unet
    assert unet.dtype == torch.float32
    wanted = first[1]["unet"].conv_in.weight.to(torch.float8_e4m3fn).float()
    assert torch.equal(unet.conv_in.weight, wanted)


@pytest.mark.parametrize(
    ("suffix", "scale"),
    [
        ("scale_weight", torch.tensor(0.5)),
        ("weight_scale", torch.tensor([0.5])),
        ("weight_scale", torch.linspace(0.5, 1, 32)),
    ],
    ids=["scalar", "one", "rows"],
)
def test_weights_in_scaled_fp8_are_multiplied(
    suffix: str, scale: Tensor, first: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    state = state_of(family("Stable Diffusion 1.x"), first[1])
    name = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k"
    small = (state[f"{name}.weight"] / 0.5).to(torch.float8_e4m3fn)
    file = save({key: each.half() for key, each in state.items()}, tmp_path / "half.safetensors")
    scaled = {**safetensors.torch.load_file(file), f"{name}.weight": small, f"{name}.{suffix}": scale}
    safetensors.torch.save_file(scaled, tmp_path / "scaled.safetensors")
    loaded = (
        opened(tmp_path / "scaled.safetensors")
        .unet.down_blocks[0]
        .attentions[0]
        .transformer_blocks[0]
        .attn2.to_k.weight
    )
    assert torch.equal(loaded, small.float() * scale.reshape(-1, 1))


def test_quantised_weights_are_refused_by_name(first: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    state = {key: each.half() for key, each in state_of(family("Stable Diffusion 1.x"), first[1]).items()}
    name = "model.diffusion_model.middle_block.1.proj_in.weight"
    safetensors.torch.save_file({**state, name: torch.zeros(512, 1, dtype=torch.uint8)}, tmp_path / "nf4.safetensors")
    assert f"is quantised ({name}: U8)" in complaint(tmp_path / "nf4.safetensors")


def test_weights_that_are_missing_are_named(first: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    state = state_of(family("Stable Diffusion 1.x"), first[1])
    for key in (
        "model.diffusion_model.out.2.bias",
        f"{VAE}decoder.norm_out.bias",
        "cond_stage_model.transformer.text_model.final_layer_norm.bias",
    ):
        file = save({name: each for name, each in state.items() if name != key}, tmp_path / "less.safetensors")
        assert "lacks weights" in complaint(file)
    wrong = state | {"model.diffusion_model.out.2.bias": torch.zeros(5)}
    assert "is of another shape than it should be: conv_out.bias ((5,) and not (4,))" in complaint(
        save(wrong, tmp_path / "w.safetensors")
    )


def test_a_pickle_is_opened_where_the_settings_allow_it(first: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    file = tmp_path / "model.ckpt"
    torch.save({"state_dict": state_of(family("Stable Diffusion 1.x"), first[1]), "epoch": 3}, file)
    assert "model.ckpt is a pickle" in complaint(file)
    assert same_weights(opened(file, allow_pickle=True).unet, first[1]["unet"])
    torch.save([1], file)
    assert "holds no weights, but a list" in complaint(file, allow_pickle=True)


# What is said beside the weights


def predicted(file: Path, **settings: Any) -> str:
    return str(opened(file, **settings).scheduler.config.prediction_type)


def test_what_the_network_predicts_is_found_where_it_is_said(
    first: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    state = state_of(family("Stable Diffusion 1.x"), first[1])
    assert predicted(first[0]) == "epsilon"
    assert predicted(first[0], prediction_type="v_prediction") == "v_prediction"
    noted = save(state, tmp_path / "noted.safetensors", notes={"modelspec.prediction_type": "v"})
    assert predicted(noted) == "v_prediction"
    assert predicted(noted, prediction_type="epsilon") == "epsilon"
    kohyas = save(state, tmp_path / "kohya.safetensors", notes={"ss_v_parameterization": "True"})
    assert predicted(kohyas) == "v_prediction"
    marked = save(state | {"v_pred": torch.zeros(1)}, tmp_path / "marked.safetensors")
    assert predicted(marked) == "v_prediction"


def test_zero_terminal_snr_is_heeded(tmp_path: Path) -> None:
    of = family("Stable Diffusion XL")
    marks = {"v_pred": torch.zeros(1), "ztsnr": torch.zeros(1)}
    config = opened(save(state_of(of, parts_of(of)) | marks, tmp_path / "noob.safetensors")).scheduler.config
    assert (config.prediction_type, config.rescale_betas_zero_snr, config.timestep_spacing) == (
        "v_prediction",
        True,
        "trailing",
    )


@pytest.mark.parametrize(("spread", "wanted", "size"), [(0.05, "epsilon", 8), (0.2, "v_prediction", 96)])
def test_stable_diffusion_2_is_told_by_the_spread_of_a_norm(
    spread: float,
    wanted: str,
    size: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    name = "output_blocks.7.1.transformer_blocks.0.norm1.bias"  # the last one of a UNet that has one layer a block
    of = dataclasses.replace(family("Stable Diffusion 2.x"), velocity=name)
    monkeypatch.setattr(recognition, "FAMILIES", (of,))
    state = state_of(of, parts_of(of))
    bias = state[f"model.diffusion_model.{name}"]
    state[f"model.diffusion_model.{name}"] = torch.linspace(-1, 1, len(bias)) * spread * 3**0.5
    file = save(state, tmp_path / "v2.safetensors")
    assert predicted(file) == wanted
    assert f"is guessed from its weights: {wanted}" in caplog.text
    assert opened(file).unet.config.sample_size == size


def test_a_file_beside_it_says_what_the_network_predicts_and_how_it_is_built(
    first: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    of = family("Stable Diffusion 1.x")
    wide = {"block_out_channels": [32, 64, 64, 64]}
    parts = first[1] | {"unet": diffusers_model("UNet2DConditionModel", "unet-sd1", **wide)}
    file = save(state_of(of, parts), tmp_path / "own.safetensors")
    assert "is of another shape" in complaint(file)
    unet = {
        "in_channels": 4, "out_channels": 4, "model_channels": 32, "channel_mult": [1, 2, 2, 2], "num_res_blocks": 1,
        "attention_resolutions": [4, 2, 1], "num_heads": 8, "transformer_depth": 1, "context_dim": 768,
    }  # fmt: skip
    first_stage = {
        "ch": 16,
        "ch_mult": [1, 1, 1, 1],
        "z_channels": 4,
        "in_channels": 3,
        "out_ch": 3,
        "num_res_blocks": 1,
    }
    said = {
        "parameterization": "v", "scale_factor": 0.2, "unet_config": {"params": unet},
        "first_stage_config": {"params": {"ddconfig": first_stage}},
    }  # fmt: skip
    (tmp_path / "own.yaml").write_text(json.dumps({"model": {"params": said}}))  # JSON is YAML
    pipeline = opened(file)
    assert same_weights(pipeline.unet, parts["unet"])
    assert (pipeline.scheduler.config.prediction_type, pipeline.vae.config.scaling_factor) == ("v_prediction", 0.2)
    assert pipeline.unet.config.sample_size == 8, "which such a file does not say"
    (tmp_path / "own.yaml").write_text("model: [")
    assert "own.yaml is no config of an original program" in complaint(file)
    (tmp_path / "own.yaml").write_text("model: {params: {unet_config: {params: {}}}}")
    assert "own.yaml: it lacks" in complaint(file)


def test_the_settings_name_the_sampler_that_requests_get(first: tuple[Path, dict[str, Any]]) -> None:
    scheduler = opened(first[0], scheduler="DPM++ 2M Karras").scheduler
    assert type(scheduler).__name__ == "DPMSolverMultistepScheduler"
    assert (scheduler.config.use_karras_sigmas, scheduler.config.beta_start) == (True, 0.00085)


@pytest.mark.parametrize(
    ("name", "kind", "spacing"),
    [
        ("sd_xl_base_1.0", "EulerDiscreteScheduler", "leading"),
        ("sd_xl_turbo_1.0_fp16", "EulerAncestralDiscreteScheduler", "trailing"),
        ("sdxl_lightning_4step", "EulerDiscreteScheduler", "trailing"),
        ("hyperrealism_xl", "EulerDiscreteScheduler", "leading"),
    ],
)
def test_few_step_editions_are_known_by_their_names(name: str, kind: str, spacing: str) -> None:
    of = family("Stable Diffusion XL")
    found = recognition.edition_of(f"{name}.safetensors", of)
    scheduler = single_file.scheduler_of(of, found)
    assert (type(scheduler).__name__, scheduler.config.timestep_spacing) == (kind, spacing)
