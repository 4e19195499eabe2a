"""Pictures with ControlNets, in one batch with others, against diffusers' own pipelines, one at a time."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import diffusers
import numpy as np
import pytest
import torch
from diffusers import ControlNetModel, DiffusionPipeline
from PIL import Image

from stablediffusiond.engine.image_run import state_of
from stablediffusiond.engine.job import Sample, Task
from stablediffusiond.engine.models import load_pipeline
from stablediffusiond.engine.pipeline_denoiser import PipelineDenoiser
from stablediffusiond.errors import InvalidRequest, ModelError
from stablediffusiond.messages.complete_request import CompleteRequest
from stablediffusiond.settings import FolderSettings, ModelSettings
from tests.engine.alone import last_step_and_picture
from tests.engine.families import save
from tests.engine.finishing import all_finished

pytestmark = pytest.mark.filterwarnings("ignore:__array_(_ implementation|wrap__ must):DeprecationWarning")

Fields = dict[str, Any]


def picture(seed: int) -> Image.Image:
    """Blocks of some colours."""
    blocks = np.random.default_rng(seed).integers(0, 2, (4, 4, 3), dtype=np.uint8) * 255
    return Image.fromarray(blocks).resize((64, 64), Image.Resampling.NEAREST)


MASK = Image.fromarray(np.array([[0, 255]], np.uint8).repeat(64, axis=0).repeat(32, axis=1))
EDGES: Fields = {"model": "edges", "image": b"opened already"}
DEPTH: Fields = {"model": "depth", "image": b"opened already"}
#: One without, one, another with other numbers, two at once, after a picture, under a mask.
JOBS: list[Fields] = [
    {"steps": 5},
    {"steps": 4, "control": [EDGES]},
    {"steps": 6, "control": [{**DEPTH, "scale": 0.6, "start": 0.1, "end": 0.7}]},
    {"steps": 4, "control": [EDGES, {**DEPTH, "scale": 0.5}]},
    {"steps": 5, "type": "img2img", "strength": 0.7, "control": [EDGES]},
    {"steps": 4, "type": "inpaint", "strength": 0.8, "control": [{**EDGES, "scale": 1.5}]},
]


@dataclass(frozen=True)
class Model:
    denoiser: PipelineDenoiser
    folder: Path
    controlnets: Mapping[str, Any]


def save_controlnets(base: Any, folder: Path) -> dict[str, Any]:
    """One in the layout of diffusers, one as a single file."""
    made = {}
    for seed, name in enumerate(("edges", "depth")):
        torch.manual_seed(seed)
        network = ControlNetModel.from_unet(base.unet, conditioning_embedding_out_channels=(16, 32, 96, 256))
        for parameter in network.parameters():
            if not parameter.abs().sum():  # they are born so that they change nothing
                torch.nn.init.normal_(parameter, std=0.2)
        torch.nn.init.normal_(network.controlnet_cond_embedding.conv_out.weight, std=30.0)
        made[name] = network.eval()
    made["edges"].save_pretrained(folder / "edges")
    made["depth"].save_pretrained(folder.parent / "single")
    (folder.parent / "single" / "diffusion_pytorch_model.safetensors").rename(folder / "depth.safetensors")
    return made


@pytest.fixture(scope="module", params=["Stable Diffusion 1", "Stable Diffusion XL"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = save(request.param, tmp_path_factory.mktemp("family"))
    controlnets = save_controlnets(DiffusionPipeline.from_pretrained(folder), folder.parent / "controlnets")
    return Model(opened(folder), folder, controlnets)


def opened(folder: Path) -> PipelineDenoiser:
    settings = ModelSettings(name=str(folder), device="cpu", dtype="float32")
    with patch("stablediffusiond.engine.arguments.own_pixels", lambda _: (64, 64)):
        folders = FolderSettings(controlnets=folder.parent / "controlnets")
        return PipelineDenoiser(load_pipeline(settings), "tiny", folders=folders)


def task(denoiser: PipelineDenoiser, key: int, fields: Fields, shown: int) -> Task:
    """The control pictures are those of job number ``shown``."""
    begins_with = {"image": b"opened already"} if fields.get("type") else {}
    masked = {"mask": b"opened already"} if fields.get("type") == "inpaint" else {}
    request = CompleteRequest.model_validate(
        {
            "prompt": "a cat",
            "seed": key,
            "guidance_scale": 4.0,
            "width": 64,
            "height": 64,
            **fields,
            **begins_with,
            **masked,
        }
    )
    return Task(
        key, request, init_image=picture(99) if begins_with else None, mask=MASK if masked else None,
        controls=controls(fields, shown), files=denoiser.read_files(request),
    )  # fmt: skip


def controls(fields: Fields, key: int) -> list[Image.Image]:
    return [picture(10 * key + place) for place in range(len(fields.get("control", ())))]


def stepped(model: Model, shown: int = 0) -> list[Sample]:
    """The images of ``JOBS``, to be decoded; each looks at the control pictures of the job ``shown`` places on."""
    tasks = [task(model.denoiser, key, fields, key + shown) for key, fields in enumerate(JOBS)]
    samples = [Sample(each, 0, model.denoiser.kind_of(each.request), 2) for each in tasks]
    assert model.denoiser.begin(samples) == {}
    while stepping := [sample for sample in samples if not sample.finished]:
        assert model.denoiser.step([each for each in stepping if each.kind == stepping[0].kind], 64) == {}
    return samples


def latents(samples: list[Sample]) -> list[torch.Tensor]:
    found = [state_of(sample).scheduler.latents for sample in samples]
    return [each for each in found if each is not None]


def alone(model: Model, key: int, fields: Fields) -> tuple[torch.Tensor, torch.Tensor]:
    """The latents of the last step, and the picture."""
    uses = fields.get("control", [])
    infix = {"img2img": "Img2Img", "inpaint": "Inpaint"}.get(fields.get("type", ""), "")
    base = DiffusionPipeline.from_pretrained(model.folder)
    stem = type(base).__name__.removesuffix("Pipeline")
    given: Fields = {}
    if uses:
        networks = [model.controlnets[use["model"]] for use in uses]
        kind = getattr(diffusers, f"{stem}ControlNet{infix}Pipeline")
        several = len(uses) > 1
        base = kind(**base.components, controlnet=networks if several else networks[0])
        shown = controls(fields, key)
        given["control_image" if infix else "image"] = shown if several else shown[0]
        for name, own, default in (("controlnet_conditioning_scale", "scale", 1.0), ("control_guidance_start", "start", 0.0),
                                   ("control_guidance_end", "end", 1.0)):  # fmt: skip
            values = [use.get(own, default) for use in uses]
            given[name] = values if several else values[0]
    if infix:
        given |= {"image": picture(99), "strength": fields["strength"]}
    if infix == "Inpaint":
        given["mask_image"] = MASK
    return last_step_and_picture(
        base, prompt="a cat", num_inference_steps=fields["steps"], guidance_scale=4.0, width=64, height=64,
        generator=torch.Generator().manual_seed(key), **given,
    )  # fmt: skip


def test_each_picture_of_a_batch_follows_its_own_controls(model: Model) -> None:
    samples = stepped(model)
    made = latents(samples)
    drawn = all_finished(model.denoiser, samples)
    for key, fields in enumerate(JOBS):
        last, image = alone(model, key, fields)
        assert (made[key] - last).abs().max() <= 1e-4 * last.abs().max(), fields
        picture = torch.as_tensor(drawn[key]).permute(2, 0, 1).float() / 255
        assert (picture - image).abs().max() < 1.5 / 255, fields


def test_the_comparison_would_see_the_controls_of_a_neighbour(model: Model) -> None:
    right, wrong = latents(stepped(model)), latents(stepped(model, shown=1))
    assert torch.equal(right[0], wrong[0])
    for one, other, fields in list(zip(right, wrong, JOBS, strict=True))[1:]:
        assert (one - other).abs().max() > 2e-3 * one.abs().max(), fields


def read(denoiser: PipelineDenoiser, name: str) -> Any:
    request = CompleteRequest.model_validate({"prompt": "", "control": [{"model": name, "image": b"x"}]})
    return denoiser.read_files(request)


def test_what_is_not_there_gets_the_nearest(model: Model) -> None:
    with pytest.raises(InvalidRequest, match="there is no ControlNet 'edge' here; did you mean 'edges'") as caught:
        read(model.denoiser, "edge")
    assert caught.value.field == "control"


def test_one_of_another_family_is_refused_with_both_names(model: Model, tmp_path: Path) -> None:
    other = save("Stable Diffusion 2", tmp_path)
    wider = DiffusionPipeline.from_pretrained(other)
    save_controlnets(wider, tmp_path / "controlnets")
    denoiser = opened(model.folder)
    with patch.object(denoiser._pipelines.controlnets._files, "_folder", tmp_path / "controlnets"):
        for name in ("edges", "depth"):
            with pytest.raises(InvalidRequest, match=f"the ControlNet '{name}' does not fit this model, of Stable"):
                read(denoiser, name)


def test_what_is_no_controlnet_is_said_to_be_something_else(model: Model, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"lora_unet_a.lora_down.weight": torch.ones(2, 2)}, tmp_path / "lora.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"no file of this kind")
    (tmp_path / "vae").mkdir()
    (tmp_path / "vae" / "config.json").write_text('{"_class_name": "AutoencoderKL"}')
    denoiser = opened(model.folder)
    with patch.object(denoiser._pipelines.controlnets._files, "_folder", tmp_path):
        with pytest.raises(InvalidRequest, match="is a LoRA"):
            read(denoiser, "lora")
        with pytest.raises(InvalidRequest, match="is a AutoencoderKL, and no ControlNet"):
            read(denoiser, "vae")
        with pytest.raises(ModelError, match="cannot be read"):
            read(denoiser, "broken")


def test_a_model_for_which_there_are_none_says_so(tmp_path: Path) -> None:
    folder = save("SANA", tmp_path)
    (tmp_path / "controlnets").mkdir()
    denoiser = opened(folder)
    request = CompleteRequest.model_validate({"prompt": "", "control": [EDGES]})
    with pytest.raises(InvalidRequest, match="there is no ControlNet"):
        denoiser.read_files(request)
