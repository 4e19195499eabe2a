"""Jobs that each use something else, all in one batch: each is the picture that it is alone, in an engine of its own.

That it is then also what diffusers draws, each of these features is compared with by itself.
"""

from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, ControlNetModel, DiffusionPipeline
from PIL import Image

from stablediffusiond.engine.image_run import state_of
from stablediffusiond.engine.job import Sample, Task
from stablediffusiond.engine.models import load_pipeline
from stablediffusiond.engine.pipeline_denoiser import PipelineDenoiser
from stablediffusiond.messages.request import Request
from stablediffusiond.settings import FolderSettings, ModelSettings
from tests.engine import lora_files, upscaler_writing
from tests.engine.families import save
from tests.engine.finishing import finished
from tests.engine.test_ip_adapters import save_ip_adapters

pytestmark = pytest.mark.filterwarnings("ignore:__array_(_ implementation|wrap__ must):DeprecationWarning")

Fields = dict[str, Any]
OPENED = b"opened already"
AFTER: Fields = {"type": "img2img", "strength": 0.8}
MASKED: Fields = {"type": "inpaint", "strength": 0.8}
#: What a job uses; then the same job with what its neighbour uses, or with nothing, which has to be another picture.
JOBS: dict[str, tuple[Fields, Fields]] = {
    "nothing": ({}, {"steps": 5}),
    "a LoRA": ({"prompt": "a cat <lora:ink:0.9>"}, {"prompt": "a cat <lora:oil:0.9>"}),
    "two LoRAs": ({"loras": ["ink:0.5", "oil:-0.7"]}, {"loras": ["ink:0.5"]}),
    "an embedding": ({"prompt": "a cat, bad-style"}, {}),
    "weights": ({"prompt": "a (red:1.6) cat"}, {"prompt": "a red cat"}),
    "a layer of CLIP": ({"clip_skip": 2}, {}),
    "a long prompt": ({"prompt": "a cat " * 60}, {}),
    "a variation": ({"subseed": 7, "subseed_strength": 0.5}, {"subseed": 8, "subseed_strength": 0.5}),
    "no edges": ({"tiling": True}, {}),
    "rescaled guidance": ({"guidance_rescale": 0.7}, {}),
    "no guidance": ({"guidance_scale": 1.0}, {}),
    "another sampler": ({"sampler": "DPM++ 2M Karras"}, {"sampler": "Euler a"}),
    "a picture": (AFTER, {**AFTER, "strength": 0.5}),
    "a mask": (MASKED, AFTER),
    "a ControlNet": ({"control": [{"model": "edges", "image": OPENED}]}, {}),
    "an IP-Adapter": ({"ip_adapter": [{"name": "plain", "image": OPENED}]}, {}),
    "another VAE": ({"vae": "soft"}, {}),
    "a second pass": ({"hires": {"scale": 1.5, "strength": 0.6}}, {"hires": {"scale": 1.5, "upscaler": "Lanczos"}}),
    "a second pass by a network": ({"hires": {"scale": 1.5, "upscaler": "sharp"}}, {"hires": {"scale": 1.5}}),
    "an upscale": ({"type": "upscale", "upscaler": "sharp"}, {"type": "upscale", "upscaler": "blunt"}),
}


def picture(seed: int) -> Image.Image:
    blocks = np.random.default_rng(seed).integers(0, 2, (4, 4, 3), dtype=np.uint8) * 255
    return Image.fromarray(blocks).resize((64, 64), Image.Resampling.NEAREST)


MASK = Image.fromarray(np.array([[0, 255]], np.uint8).repeat(64, axis=0).repeat(32, axis=1))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model, and files of every kind beside it."""
    model = save("Stable Diffusion 1", tmp_path_factory.mktemp("family"))
    base, beside = DiffusionPipeline.from_pretrained(model), model.parent
    for seed, name in enumerate(("ink", "oil")):
        lora_files.kohya(base, beside / f"loras/{name}.safetensors", seed)
    (beside / "embeddings").mkdir()
    torch.manual_seed(2)
    vectors = torch.randn(2, base.text_encoder.config.hidden_size)
    torch.save({"string_to_param": {"*": vectors}}, beside / "embeddings/bad-style.pt")
    controlnet = ControlNetModel.from_unet(base.unet, conditioning_embedding_out_channels=(16, 32, 96, 256))
    for parameter in controlnet.parameters():
        if not parameter.abs().sum():  # they are born so that they change nothing
            torch.nn.init.normal_(parameter, std=0.2)
    controlnet.save_pretrained(beside / "controlnets/edges")
    save_ip_adapters(base.unet, beside / "ip-adapters")
    torch.manual_seed(3)
    AutoencoderKL.from_config(base.vae.config).save_pretrained(beside / "vaes/soft")
    for seed, name in enumerate(("sharp", "blunt")):
        upscaler_writing.esrgan(beside / f"upscalers/{name}.pth", seed=seed)
    return model


def opened(folder: Path) -> PipelineDenoiser:
    beside = folder.parent
    folders = FolderSettings(
        loras=beside / "loras", embeddings=beside / "embeddings", controlnets=beside / "controlnets",
        ip_adapters=beside / "ip-adapters", vaes=beside / "vaes", upscalers=beside / "upscalers",
    )  # fmt: skip
    settings = ModelSettings(name=str(folder), device="cpu", dtype="float32")
    with patch("stablediffusiond.engine.arguments.own_pixels", lambda _: (64, 64)):
        return PipelineDenoiser(load_pipeline(settings), "tiny", folders=folders)


def sample_of(denoiser: PipelineDenoiser, key: int, fields: Fields) -> Sample:
    kind = fields.get("type", "txt2img")
    pictures = {"image": OPENED} if kind != "txt2img" else {}
    pictures |= {"mask": OPENED} if kind == "inpaint" else {}
    asked = {"prompt": "a cat", "id": "x", "seed": 3, "steps": 4, "guidance_scale": 4.0, **pictures, **fields}
    request, _ = denoiser.complete(Request.from_fields(asked)[0])
    if kind == "upscale":
        request = request.model_copy(update={"width": 128, "height": 128})
    task = Task(
        key, request, init_image=picture(9) if pictures else None, mask=MASK if kind == "inpaint" else None,
        controls=[picture(1)] * len(request.control), image_prompts=[picture(2)] * len(request.ip_adapter),
        files=denoiser.read_files(request),
    )  # fmt: skip
    return Sample(task, 0, denoiser.kind_of(request), denoiser.rows_of(request))


def drawn(denoiser: PipelineDenoiser, jobs: list[Fields]) -> tuple[list[torch.Tensor], int]:
    """Each picture, (3, H, W) from 0 to 1, as the last call made it; and how many calls had more than one image."""
    samples = [sample_of(denoiser, key, fields) for key, fields in enumerate(jobs)]
    assert denoiser.begin(samples) == {}
    shared = 0
    while stepping := [sample for sample in samples if not sample.finished]:
        alike = [sample for sample in stepping if sample.kind == stepping[0].kind]
        shared += len(alike) > 1
        assert denoiser.step(alike, 64) == {}
    for sample in samples:
        finished(denoiser, sample)
    results = [state_of(sample).run.result for sample in samples]
    return [
        torch.from_numpy(result).permute(2, 0, 1) / 255 if isinstance(result, np.ndarray) else result[0]
        for result in results
    ], shared


def test_twenty_jobs_with_something_else_each_are_what_each_is_alone(folder: Path) -> None:
    together, shared = drawn(opened(folder), [fields for fields, _ in JOBS.values()])
    assert shared >= 4, "most of them step together"
    alone, others = opened(folder), opened(folder)
    for (name, (fields, neighbour)), made in zip(JOBS.items(), together, strict=True):
        [expected], _ = drawn(alone, [fields])
        assert made.shape == expected.shape
        assert (made - expected).abs().max() <= 1e-4, name
        [other], _ = drawn(others, [neighbour])
        assert other.shape != made.shape or (made - other).abs().max() > 5e-3, f"{name} changes the picture"


def test_most_of_them_share_their_calls_with_plain_pictures(folder: Path) -> None:
    """LoRAs, embeddings, weights, IP-Adapters, VAEs, variations, masks and samplers do not tell calls apart."""
    denoiser = opened(folder)
    apart = {"a ControlNet", "a long prompt", "no edges", "no guidance", "an upscale"}
    names = [name for name in JOBS if name not in apart]
    samples = [sample_of(denoiser, key, JOBS[name][0]) for key, name in enumerate(names)]
    assert denoiser.begin(samples) == {}
    assert {sample.kind for sample in samples} == {samples[0].kind}
