import gc
import os
import shutil
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
import safetensors.torch
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

from stablediffusiond.engine import models
from stablediffusiond.engine.capacity import warm_up
from stablediffusiond.engine.models import load, load_pipeline
from stablediffusiond.engine.pipeline_denoiser import PipelineDenoiser
from stablediffusiond.errors import JobError, ModelError, ModelUnavailable, OutOfMemory, StableDiffusiondError
from stablediffusiond.settings import ModelSettings
from tests.preloaded import request_daemon


def complaint(**settings: Any) -> str:
    with pytest.raises(ModelUnavailable) as caught:
        load_pipeline(ModelSettings(**settings))
    return str(caught.value)


@pytest.fixture(scope="session")
def folder(pipeline: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("models") / "tiny"
    pipeline.save_pretrained(made)
    return made


def test_a_folder_in_the_diffusers_layout_is_loaded_and_warm(folder: Path) -> None:
    denoiser = load(ModelSettings(name=str(folder), device="cpu"))
    assert (denoiser.device, denoiser.dtype, denoiser.memory_bytes()) == ("cpu", "float32", None)


def test_a_dtype_can_be_asked_for(folder: Path) -> None:
    assert load_pipeline(ModelSettings(name=str(folder), device="cpu", dtype="bfloat16")).unet.dtype == torch.bfloat16


@pytest.mark.parametrize("name", ["/no/such/folder", "./none", "~/none-at-all"])
def test_a_missing_folder_is_named(name: str) -> None:
    assert "no such folder" in complaint(name=name)


def test_a_missing_file_is_named() -> None:
    assert "no such file" in complaint(name="/no/such.safetensors")


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.safetensors").write_bytes(b"not safetensors")
    assert "bad.safetensors is no safetensors file" in complaint(name=str(tmp_path / "bad.safetensors"))


def test_a_kind_of_model_that_is_not_driven_is_refused(tmp_path: Path) -> None:
    unet = UNet2DModel(
        sample_size=8, in_channels=3, out_channels=3, layers_per_block=1, block_out_channels=(32, 32), norm_num_groups=8,
        down_block_types=("DownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    foreign: Any = DDPMPipeline(unet, DDPMScheduler())
    foreign.save_pretrained(tmp_path / "ddpm")
    assert "is a DDPMPipeline, which takes no prompt" in complaint(name=str(tmp_path / "ddpm"))


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("name", ["model.ckpt", "model.bin", "model.pt", "model.pth"])
def test_a_pickled_checkpoint_is_refused_and_not_opened(name: str, tmp_path: Path) -> None:
    torch.save({"state_dict": Trap(tmp_path / "sprung")}, tmp_path / name)
    said = complaint(name=str(tmp_path / name), device="cpu")
    assert f"{name} is a pickle" in said
    assert "[model] allow_pickle = true" in said
    assert not (tmp_path / "sprung").exists()


def test_the_daemon_that_is_told_to_open_one_ends(environment: dict[str, str], tmp_path: Path) -> None:
    torch.save({"state_dict": Trap(tmp_path / "sprung")}, tmp_path / "model.ckpt")
    environment["STABLEDIFFUSIOND_MODEL__NAME"] = str(tmp_path / "model.ckpt")
    with request_daemon(environment) as daemon:
        assert daemon.process.wait(120) == 78, "so that systemd does not start it again"
        assert "[model] allow_pickle = true" in daemon.log
        assert "Traceback" not in daemon.log
    assert not (tmp_path / "sprung").exists()


@pytest.fixture
def with_a_pickle(folder: Path, tmp_path: Path) -> Path:
    """A diffusers folder whose UNet has its weights in a pickle."""
    made = tmp_path / "pickled"
    shutil.copytree(folder, made)
    [weights] = (made / "unet").glob("*.safetensors")
    torch.save(safetensors.torch.load_file(weights), weights.with_suffix(".bin"))
    weights.unlink()
    return made


def test_a_pickle_inside_a_folder_is_refused_too(with_a_pickle: Path) -> None:
    assert "diffusion_pytorch_model.bin is a pickle" in complaint(name=str(with_a_pickle), device="cpu")


def test_a_pickle_is_opened_where_the_settings_allow_it(with_a_pickle: Path, pipeline: Any) -> None:
    settings = ModelSettings(name=str(with_a_pickle), device="cpu", allow_pickle=True)
    opened = load_pipeline(settings).unet.state_dict()
    assert all(torch.equal(opened[name], weights) for name, weights in pipeline.unet.state_dict().items())


def test_a_pickle_beside_safetensors_is_left_alone(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "both")
    torch.save({"weights": Trap(tmp_path / "sprung")}, tmp_path / "both/unet/diffusion_pytorch_model.bin")
    load_pipeline(ModelSettings(name=str(tmp_path / "both"), device="cpu"))
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("error", "said", "code"),
    [
        (ModelError("mat1 and mat2 shapes cannot be multiplied"), "does not draw: mat1", 78),
        (OutOfMemory("the device has no room for this"), "has no room to draw a picture", 70),
    ],
)
def test_a_model_that_does_not_draw_its_first_picture_is_told_from_one_without_room(
    error: JobError, said: str, code: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PipelineDenoiser, "warm_up", Mock(side_effect=error))
    with pytest.raises(StableDiffusiondError, match=said) as caught:
        load(ModelSettings(name=str(folder), device="cpu"))
    assert caught.value.exit_code == code


def test_a_pipeline_without_a_network_that_makes_steps_is_refused(
    pipeline: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "load_pipeline", lambda *_: SimpleNamespace(components={}, config={}, scheduler=None))
    with pytest.raises(ModelUnavailable, match="has neither a UNet nor a transformer"):
        load(ModelSettings(name=str(folder), device="cpu"))


def test_a_model_that_nobody_draws_with_any_more_leaves_nothing_behind(folder: Path) -> None:
    denoiser = load(ModelSettings(name=str(folder), device="cpu"))
    warm_up(denoiser, None)
    network = weakref.ref(denoiser._pipelines.denoiser)
    del denoiser
    gc.collect()
    assert network() is None
