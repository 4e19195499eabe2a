"""One tiny model with random weights for each family: 64 x 64 pixels, float32, saved as a folder."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import diffusers
import torch

from stablediffusiond.engine.job import Pixels, Sample, Task
from stablediffusiond.engine.models import load_pipeline
from stablediffusiond.engine.pipeline_denoiser import PipelineDenoiser
from stablediffusiond.messages.complete_request import CompleteRequest
from stablediffusiond.messages.request import JobType
from stablediffusiond.settings import ModelSettings
from tests.engine.families import transformers, unets
from tests.engine.finishing import all_finished


@dataclass(frozen=True)
class Family:
    """How its tiny model is made, and what diffusers draws with it."""

    make: Callable[[Path], Any]
    classes: Mapping[JobType, Any]  #: for each task that it can be used for, what diffusers has for it
    guidance: str = "guidance_scale"  #: the argument that is the scale of guidance by a second call of the network


def _family(make: Callable[[Path], Any], stem: str, *, guidance: str = "guidance_scale") -> Family:
    """One whose pipelines have the names that diffusers usually gives."""
    names: dict[JobType, str] = {"txt2img": "", "img2img": "Img2Img", "inpaint": "Inpaint"}
    classes = {task: getattr(diffusers, f"{stem}{name}Pipeline") for task, name in names.items()}
    return Family(make, classes, guidance)


FAMILIES: Final[dict[str, Family]] = {
    "Stable Diffusion 1": _family(unets.stable_diffusion, "StableDiffusion"),
    "Stable Diffusion 2": _family(unets.stable_diffusion_2, "StableDiffusion"),
    "Stable Diffusion 2 v": _family(unets.stable_diffusion_2_v, "StableDiffusion"),
    "Stable Diffusion 1 inpainting": Family(
        unets.stable_diffusion_inpainting, {"inpaint": diffusers.StableDiffusionInpaintPipeline}
    ),
    "instruct-pix2pix": Family(unets.instruct_pix2pix, {"img2img": diffusers.StableDiffusionInstructPix2PixPipeline}),
    "latent consistency": Family(
        unets.latent_consistency,
        {
            "txt2img": diffusers.LatentConsistencyModelPipeline,
            "img2img": diffusers.LatentConsistencyModelImg2ImgPipeline,
        },
    ),
    "Stable Diffusion XL": _family(unets.stable_diffusion_xl, "StableDiffusionXL"),
    "Stable Diffusion XL refiner": Family(
        unets.stable_diffusion_xl_refiner,
        {
            "img2img": diffusers.StableDiffusionXLImg2ImgPipeline,
            "inpaint": diffusers.StableDiffusionXLInpaintPipeline,
        },
    ),
    "Stable Diffusion XL Turbo": _family(unets.stable_diffusion_xl_turbo, "StableDiffusionXL"),
    "Stable Diffusion 3": _family(transformers.stable_diffusion_3, "StableDiffusion3"),
    "FLUX.1 dev": _family(transformers.flux, "Flux"),
    "FLUX.1 schnell": _family(
        lambda scratch: transformers.flux(scratch, guidance=False), "Flux", guidance="true_cfg_scale"
    ),
    "FLUX.1 Fill": Family(transformers.flux_fill, {"inpaint": diffusers.FluxFillPipeline}),
    "FLUX.1 Kontext": Family(
        transformers.flux_kontext,
        {
            "txt2img": diffusers.FluxKontextPipeline,
            "img2img": diffusers.FluxKontextPipeline,
            "inpaint": diffusers.FluxKontextInpaintPipeline,
        },
    ),
    "FLUX.2 klein": Family(
        transformers.flux_2_klein,
        {
            "txt2img": diffusers.Flux2KleinPipeline,
            "img2img": diffusers.Flux2KleinPipeline,
            "inpaint": diffusers.Flux2KleinInpaintPipeline,
        },
    ),
    "Z-Image": _family(transformers.z_image, "ZImage"),
    "Qwen-Image": _family(transformers.qwen_image, "QwenImage", guidance="true_cfg_scale"),
    # diffusers 0.42's ChromaInpaintPipeline asks for a key that the network's config does not have.
    "Chroma": Family(
        transformers.chroma, {"txt2img": diffusers.ChromaPipeline, "img2img": diffusers.ChromaImg2ImgPipeline}
    ),
    "PixArt": Family(transformers.pixart, {"txt2img": diffusers.PixArtAlphaPipeline}),
    "SANA": Family(transformers.sana, {"txt2img": diffusers.SanaPipeline}),
    "Lumina 2": Family(transformers.lumina_2, {"txt2img": diffusers.Lumina2Pipeline}),
    # Nothing was ever written for this one.
    "AuraFlow": Family(transformers.aura_flow, {"txt2img": diffusers.AuraFlowPipeline}),
}


#: Where the tests draw; with a GPU: STABLEDIFFUSIOND_TEST_DEVICE=cuda python -m pytest tests/engine/test_families.py
DEVICE: Final = os.environ.get("STABLEDIFFUSIOND_TEST_DEVICE", "cpu")
torch.backends.cudnn.allow_tf32 = False  # a precision in which nothing could be compared


def opened(folder: Path, **settings: str) -> PipelineDenoiser:
    """The model in ``folder``, which is taken for one of pictures of 64 x 64 pixels: some classes say 1024."""
    asked = ModelSettings.model_validate({"name": str(folder), "device": DEVICE, "dtype": "float32", **settings})
    with patch("stablediffusiond.engine.arguments.own_pixels", lambda _: (64, 64)):
        return PipelineDenoiser(load_pipeline(asked), "tiny")


def drawn_together(denoiser: PipelineDenoiser, requests: Sequence[CompleteRequest]) -> list[Pixels]:
    """The pictures of ``requests``, which are alike, in one batch."""
    samples = [Sample(Task(key, each), 0, denoiser.kind_of(each), 2) for key, each in enumerate(requests)]
    assert denoiser.begin(samples) == {}
    while not samples[0].finished:
        assert denoiser.step(samples, 8) == {}
        assert all(sample.finished == samples[0].finished for sample in samples)
    return all_finished(denoiser, samples)


def save(family: str, folder: Path) -> Path:
    """The model of ``family`` as a folder that ``[model] name`` may name."""
    torch.manual_seed(0)
    scratch = folder / "scratch"
    scratch.mkdir(parents=True)
    pipeline = FAMILIES[family].make(scratch)
    for module in pipeline.components.values():
        if isinstance(module, torch.nn.Module):
            for parameter in module.parameters():
                if not parameter.abs().sum():  # gates that are born zero would let nothing through
                    torch.nn.init.normal_(parameter, std=0.05)
    pipeline.save_pretrained(folder / "model")
    return folder / "model"
