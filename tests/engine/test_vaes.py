"""Pictures with VAEs of their own, in one batch with others, against diffusers' pipelines that have that VAE."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import diffusers
import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, DiffusionPipeline
from PIL import Image

from stablediffusiond.engine.decode_queue import DecodeQueue
from stablediffusiond.engine.image_run import state_of
from stablediffusiond.engine.job import Pixels, Sample, Task
from stablediffusiond.engine.models import load_pipeline
from stablediffusiond.engine.pipeline_denoiser import PipelineDenoiser
from stablediffusiond.engine.refiner import Refiner
from stablediffusiond.errors import InvalidRequest, ModelError
from stablediffusiond.messages.complete_request import CompleteRequest
from stablediffusiond.settings import FolderSettings, ModelSettings
from tests.engine.families import save
from tests.engine.finishing import all_finished

pytestmark = pytest.mark.filterwarnings("ignore:__array_(_ implementation|wrap__ must):DeprecationWarning")

Fields = dict[str, Any]

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
JOBS: list[Fields] = [
    {},
    {"vae": "soft"},
    {"vae": "Sharp.safetensors"},
    {"vae": "soft", "type": "img2img", "strength": 0.6},
    {"type": "img2img", "strength": 0.6},
    {"vae": "sharp", "steps": 3},
]


@dataclass(frozen=True)
class Model:
    denoiser: PipelineDenoiser
    folder: Path
    vaes: dict[str, Any]


def opened(folder: Path, vaes: Path) -> PipelineDenoiser:
    settings = ModelSettings(name=str(folder), device="cpu", dtype="float32")
    with patch("stablediffusiond.engine.arguments.own_pixels", lambda _: (64, 64)):
        folders = FolderSettings(vaes=vaes)
        return PipelineDenoiser(load_pipeline(settings), "tiny", folders=folders, vae_tiling=settings.vae_tiling)


@pytest.fixture(scope="module", params=["Stable Diffusion 1", "Stable Diffusion XL", "FLUX.1 dev"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = save(request.param, tmp_path_factory.mktemp("family"))
    base = DiffusionPipeline.from_pretrained(folder)
    vaes = {}
    for seed, name in enumerate(("soft", "sharp"), start=7):
        torch.manual_seed(seed)
        vaes[name] = AutoencoderKL.from_config(base.vae.config).eval()
        vaes[name].save_pretrained(folder.parent / "vaes" / name)
    single = folder.parent / "vaes/sharp"
    (single / "diffusion_pytorch_model.safetensors").rename(folder.parent / "vaes/sharp.safetensors")
    (single / "config.json").unlink()
    return Model(opened(folder, folder.parent / "vaes"), folder, vaes)


def samples_of(denoiser: PipelineDenoiser, jobs: list[Fields]) -> list[Sample]:
    """Stepped, to be decoded."""
    samples = []
    for key, fields in enumerate(jobs):
        image = {"image": b"opened already"} if "type" in fields else {}
        request = CompleteRequest.model_validate(
            {"prompt": "a cat", "seed": key, "guidance_scale": 4.0, "steps": 4, "width": 64, "height": 64, **fields, **image}
        )
        task = Task(key, request, init_image=PICTURE if image else None, files=denoiser.read_files(request))
        samples.append(Sample(task, 0, denoiser.kind_of(request), 2))
    assert denoiser.begin(samples) == {}
    while stepping := [sample for sample in samples if not sample.finished]:
        assert denoiser.step([each for each in stepping if each.kind == stepping[0].kind], 64) == {}
    return samples


def alone(model: Model, key: int, fields: Fields) -> np.ndarray[Any, Any]:
    base = DiffusionPipeline.from_pretrained(model.folder)
    if "vae" in fields:
        base.register_modules(vae=model.vaes[fields["vae"].split(".")[0].lower()])
    given: Fields = {}
    if "type" in fields:
        kind = getattr(diffusers, type(base).__name__.replace("Pipeline", "Img2ImgPipeline"))
        base, given = kind(**base.components), {"image": PICTURE, "strength": fields["strength"]}
    base.set_progress_bar_config(disable=True)
    image: torch.Tensor = base(
        "a cat", num_inference_steps=fields.get("steps", 4), guidance_scale=4.0, width=64, height=64, output_type="pt",
        generator=torch.Generator().manual_seed(key), **given,
    ).images[0]  # fmt: skip
    return image.permute(1, 2, 0).float().numpy() * 255


def test_each_picture_of_a_batch_has_its_own_vae_and_steps_with_the_others(model: Model) -> None:
    samples = samples_of(model.denoiser, JOBS)
    drawn = all_finished(model.denoiser, samples)
    for key, fields in enumerate(JOBS):
        assert np.abs(drawn[key].astype(float) - alone(model, key, fields)).max() < 1.5, fields
    assert model.denoiser.facts(samples[1]).vae == "soft"


def test_the_comparison_would_see_the_vae_of_a_neighbour(model: Model) -> None:
    [drawn] = all_finished(model.denoiser, samples_of(model.denoiser, JOBS[1:2]))
    assert np.abs(drawn.astype(float) - alone(model, 0, {"vae": "sharp"})).max() > 20
    assert np.abs(drawn.astype(float) - alone(model, 0, {})).max() > 20


def test_they_share_the_steps_and_not_the_decoding(model: Model) -> None:
    samples = samples_of(model.denoiser, [{}, {"vae": "soft"}, {"vae": "soft"}, {"vae": "sharp"}])
    assert len({id(call.module) for sample in samples if (call := state_of(sample).run.call)}) == 3
    queue = DecodeQueue(lambda _: True)
    queue.samples.extend(samples)
    taken: list[list[int]] = []
    while together := queue.take(lambda _: 4):
        taken.append([sample.task.key for sample in together])
    assert taken == [[0], [1, 2], [3]]


def read(denoiser: PipelineDenoiser, name: str) -> Any:
    return denoiser.read_files(CompleteRequest.model_validate({"prompt": "", "vae": name}))


def test_what_is_not_there_gets_the_nearest(model: Model) -> None:
    with pytest.raises(InvalidRequest, match="there is no VAE 'sof' here; did you mean 'soft'") as caught:
        read(model.denoiser, "sof")
    assert caught.value.field == "vae"
    assert model.denoiser.offer().vaes == ["sharp", "soft"]
    assert model.denoiser.names_files(CompleteRequest.model_validate({"prompt": "", "vae": "x"}))


def test_one_for_other_latents_is_refused_with_both_numbers(tmp_path: Path) -> None:
    folder = save("Stable Diffusion 1", tmp_path)
    own = DiffusionPipeline.from_pretrained(folder).vae.config
    wide = AutoencoderKL.from_config({**own, "latent_channels": 16})
    wide.save_pretrained(tmp_path / "vaes/wide")
    wide.save_pretrained(tmp_path / "single")
    (tmp_path / "single/diffusion_pytorch_model.safetensors").rename(tmp_path / "vaes/file.safetensors")
    deep = {**own, "block_out_channels": (32, 32), "down_block_types": ("DownEncoderBlock2D",) * 2}
    AutoencoderKL.from_config({**deep, "up_block_types": ("UpDecoderBlock2D",) * 2}).save_pretrained(tmp_path / "vaes/deep")
    denoiser = opened(folder, tmp_path / "vaes")
    for name in ("wide", "file"):
        said = f"the VAE '{name}' does not fit this model, of StableDiffusionPipeline: .*latents of 16 channels, .*have 4"
        with pytest.raises(InvalidRequest, match=said):
            read(denoiser, name)
    with pytest.raises(InvalidRequest, match="a latent of it stands for another number of pixels"):
        read(denoiser, "deep")


def test_what_is_no_vae_is_said_to_be_something_else(model: Model, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"lora_unet_a.lora_down.weight": torch.ones(2, 2)}, tmp_path / "lora.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"no file of this kind")
    for name, config in (("unet", '{"_class_name": "UNet2DConditionModel"}'), ("scribbled", "{")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(config)
    denoiser = opened(model.folder, tmp_path)
    with pytest.raises(InvalidRequest, match="is a LoRA"):
        read(denoiser, "lora")
    with pytest.raises(InvalidRequest, match="is a UNet2DConditionModel, and no VAE"):
        read(denoiser, "unet")
    for name in ("broken", "scribbled"):
        with pytest.raises(ModelError, match="cannot be read"):
            read(denoiser, name)


def test_a_refiner_decodes_with_it(tmp_path: Path) -> None:
    folder = save("Stable Diffusion XL", tmp_path)
    config = DiffusionPipeline.from_pretrained(folder).vae.config
    torch.manual_seed(3)
    AutoencoderKL.from_config(config).save_pretrained(tmp_path / "vaes/soft")
    denoiser = opened(folder, tmp_path / "vaes")
    refining = opened(folder, tmp_path / "none")
    denoiser._refiner = Refiner(refining._pipelines, 0.5)
    drawn: list[Pixels] = all_finished(denoiser, samples_of(denoiser, [{"seed": 1}, {"seed": 1, "vae": "soft"}]))
    assert np.abs(drawn[0].astype(float) - drawn[1]).max() > 20
