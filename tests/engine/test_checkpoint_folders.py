"""Folders in the layout of diffusers: only what will be loaded counts."""

import errno
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from stablediffusiond import sandbox
from stablediffusiond.engine.checkpoints.folder import variant_of
from stablediffusiond.engine.models import load_pipeline
from stablediffusiond.errors import ModelAway, ModelUnavailable
from stablediffusiond.settings import ModelSettings


def opened(folder: Path, **settings: Any) -> Any:
    return load_pipeline(ModelSettings.model_validate({"name": str(folder), "device": "cpu", **settings}))


def complaint(folder: Path, **settings: Any) -> str:
    with pytest.raises(ModelUnavailable) as caught:
        opened(folder, **settings)
    assert caught.value.exit_code == 78
    return str(caught.value)


@pytest.fixture(scope="module")
def whole(pipeline: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("models") / "tiny"
    pipeline.save_pretrained(made)
    return made


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "model"))


def weights_of(folder: Path, *components: str) -> list[Path]:
    names = components or ("unet", "vae", "text_encoder")
    return [file for name in names for file in (folder / name).glob("*.safetensors")]


@pytest.mark.parametrize("variant", ["fp16", "ema"])
def test_a_folder_of_one_variant_is_loaded(variant: str, folder: Path, pipeline: Any) -> None:
    for file in weights_of(folder):
        file.rename(file.with_suffix(f".{variant}.safetensors"))
    assert torch.equal(opened(folder).unet.conv_in.bias, pipeline.unet.conv_in.bias)


def test_a_folder_some_of_whose_components_are_variants_is_loaded(folder: Path, pipeline: Any) -> None:
    for file in weights_of(folder, "unet"):
        file.rename(file.with_suffix(".fp16.safetensors"))
    loaded = opened(folder)
    assert torch.equal(loaded.unet.conv_in.bias, pipeline.unet.conv_in.bias)
    assert torch.equal(loaded.vae.quant_conv.bias, pipeline.vae.quant_conv.bias)


def test_where_there_are_both_the_plain_one_is_loaded(folder: Path, pipeline: Any) -> None:
    for file in weights_of(folder):
        shutil.copy(file, file.with_suffix(".fp16.safetensors"))
    assert torch.equal(opened(folder).unet.conv_in.bias, pipeline.unet.conv_in.bias)


def test_variants_are_read_out_of_all_names_that_were_ever_written() -> None:
    assert variant_of([["model.safetensors"], ["diffusion_pytorch_model.fp16.safetensors", "config.json"]]) == "fp16"
    assert variant_of([["model.fp16-00001-of-00002.safetensors", "model.fp16-00002-of-00002.safetensors"]]) == "fp16"
    assert variant_of([["model-00001-of-00002.fp16.safetensors", "model-00002-of-00002.fp16.safetensors"]]) == "fp16"
    assert variant_of([["model-00001-of-00002.safetensors"], ["config.json"], []]) is None
    assert variant_of([["a.fp16.safetensors", "a.non_ema.safetensors"]]) == "fp16"
    with pytest.raises(ModelUnavailable, match="of which none has all components"):
        variant_of([["a.fp16.safetensors"], ["b.bf16.safetensors"]])


def test_pickles_that_will_not_be_loaded_refuse_nothing(folder: Path) -> None:
    """As a training leaves them, and as the hub has them beside the rest."""
    for name in (
        "optimizer.bin", "random_states_0.pkl", "model.ckpt", "checkpoint-500/optimizer.bin", "unet/pytorch_model.bin",
        "safety_checker/pytorch_model.bin", "text_encoder/training_args.bin",
    ):  # fmt: skip
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"not even a pickle")
    opened(folder)


def test_a_pickle_that_would_be_loaded_is_refused(folder: Path) -> None:
    [weights] = weights_of(folder, "text_encoder")
    torch.save(safetensors.torch.load_file(weights), weights.with_name("pytorch_model.bin"))
    weights.unlink()
    assert "pytorch_model.bin is a pickle" in complaint(folder)


def test_what_is_missing_or_broken_is_named_before_anything_is_loaded(folder: Path) -> None:
    [weights] = weights_of(folder, "vae")
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-100])
    assert f"{weights} is cut off: 100 of" in complaint(folder)
    weights.unlink()
    assert f"{folder / 'vae'} holds no weights" in complaint(folder)
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (weights.parent / "model.safetensors.index.json").write_text(json.dumps(index))
    weights.with_name("model-00001-of-00002.safetensors").write_bytes(whole)
    assert "is not complete: model-00002-of-00002.safetensors is missing; fetch it again" in complaint(folder)
    (weights.parent / "model.safetensors.index.json").unlink()
    shutil.rmtree(folder / "scheduler")
    assert f"{folder / 'scheduler'} is missing, or is empty; fetch it again" in complaint(folder)
    (folder / "model_index.json").write_text("{")
    assert "model_index.json is no JSON" in complaint(folder)


def test_a_folder_that_is_no_model_says_what_it_is(folder: Path, tmp_path: Path) -> None:
    [weights] = weights_of(folder, "unet")
    assert f"if a single file is meant, name it: {weights}" in complaint(folder / "unet")
    weights.unlink()
    assert "it is one component of a model" in complaint(folder / "unet")
    (tmp_path / "empty").mkdir()
    assert "has no model_index.json, so it is no model" in complaint(tmp_path / "empty")


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("TextToVideoSDPipeline", "is a TextToVideoSDPipeline, which makes something else than pictures (num_frames)"),
        ("WanPipeline", "makes something else than pictures"),
        ("StableAudioPipeline", "makes something else than pictures"),
        ("StableVideoDiffusionPipeline", "takes no prompt"),
        ("DDPMPipeline", "takes no prompt"),
        ("NoSuchPipeline", "is made for NoSuchPipeline, which diffusers"),
        (["pipeline_own", "OwnPipeline"], "is made for ['pipeline_own', 'OwnPipeline'], which diffusers"),
    ],
)
def test_a_model_of_another_kind_is_refused_before_it_is_loaded(kind: object, said: str, folder: Path) -> None:
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps({**index, "_class_name": kind}))
    shutil.rmtree(folder / "unet")
    assert said in complaint(folder)


@pytest.mark.filterwarnings("ignore:__array_(_ implementation|wrap__ must):DeprecationWarning")
def test_settings_of_the_model_go_before_what_the_folder_says(folder: Path) -> None:
    loaded = opened(folder, scheduler="Euler a", prediction_type="v_prediction")
    assert type(loaded.scheduler).__name__ == "EulerAncestralDiscreteScheduler"
    assert loaded.scheduler.config.prediction_type == "v_prediction"


def test_another_vae_takes_the_place_of_the_folders_own(folder: Path, pipeline: Any, tmp_path: Path) -> None:
    [file] = weights_of(folder, "vae")
    moved = {name: each + 1 for name, each in safetensors.torch.load_file(file).items()}
    safetensors.torch.save_file(moved, tmp_path / "vae.safetensors")
    loaded = opened(folder, vae=str(tmp_path / "vae.safetensors"))
    assert torch.equal(loaded.vae.quant_conv.bias, pipeline.vae.quant_conv.bias + 1)


def test_a_sampler_that_is_not_known_is_an_error_of_the_settings() -> None:
    with pytest.raises(ValueError, match="unknown sampler 'Oiler'; did you mean"):
        ModelSettings(scheduler="Oiler")


@pytest.mark.parametrize(
    "settings", [{"name": "/home/a/m"}, {"name": "/home/a/m.safetensors"}, {"vae": "/home/a/v.safetensors"}]
)
def test_what_a_unit_hides_is_said_with_the_drop_in(
    settings: dict[str, str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "hides", lambda path: f"the unit does not see it; let a drop-in say {path.parent}")
    with pytest.raises(ModelUnavailable, match="does not see it; let a drop-in say /home/a"):
        load_pipeline(ModelSettings.model_validate({"name": str(folder), "device": "cpu", **settings}))


def test_a_disk_that_does_not_answer_is_tried_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreadable(*_: object, **__: object) -> None:
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr(Path, "open", unreadable)
    with pytest.raises(ModelAway, match="cannot be read: Stale file handle") as caught:
        opened(folder)
    assert caught.value.exit_code == 70
