"""Two models, the second of which makes the last steps, against diffusers' two pipelines one after the other."""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionXLImg2ImgPipeline, StableDiffusionXLPipeline

from stablediffusiond.engine.image_run import state_of
from stablediffusiond.engine.job import Sample, Task
from stablediffusiond.engine.models import load
from stablediffusiond.engine.pipeline_denoiser import PipelineDenoiser
from stablediffusiond.errors import ModelUnavailable
from stablediffusiond.messages.complete_request import CompleteRequest
from stablediffusiond.settings import ModelSettings
from tests.engine.families import save
from tests.engine.finishing import finished

# diffusers' sigma schedulers hand tensors to numpy in a way that numpy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array_(_ implementation|wrap__ must):DeprecationWarning")

SWITCH = 0.6
Fields = dict[str, Any]
JOBS: list[Fields] = [
    {"prompt": "a red cat", "steps": 6, "seed": 1, "guidance_scale": 5.0},
    {"prompt": "a blue dog", "steps": 9, "seed": 2, "guidance_scale": 3.0},
    {"prompt": "a tree", "steps": 2, "seed": 3, "guidance_scale": 5.0},  # too few for both
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    families = "Stable Diffusion XL", "Stable Diffusion XL refiner"
    base, refiner = (save(family, tmp_path_factory.mktemp("family")) for family in families)
    return base, refiner


@pytest.fixture(scope="module")
def denoiser(folders: tuple[Path, Path]) -> PipelineDenoiser:
    base, refiner = map(str, folders)
    return load(ModelSettings(name=base, refiner=refiner, refiner_switch=SWITCH, device="cpu"))


def alone(folders: tuple[Path, Path], fields: Fields) -> torch.Tensor:
    base = StableDiffusionXLPipeline.from_pretrained(folders[0])
    refiner = StableDiffusionXLImg2ImgPipeline.from_pretrained(folders[1])
    generator = torch.Generator().manual_seed(fields["seed"])
    given = {
        "prompt": fields["prompt"], "num_inference_steps": fields["steps"],
        "guidance_scale": fields["guidance_scale"], "generator": generator,
    }  # fmt: skip
    if fields["steps"] * (1 - SWITCH) < 1:
        image: torch.Tensor = base(**given, width=64, height=64, output_type="pt").images[0]
        return image
    latents = base(**given, width=64, height=64, denoising_end=SWITCH, output_type="latent").images
    refined: torch.Tensor = refiner(**given, image=latents, denoising_start=SWITCH, output_type="pt").images[0]
    return refined


def test_both_models_step_pictures_together(folders: tuple[Path, Path], denoiser: PipelineDenoiser) -> None:
    requests = [CompleteRequest.model_validate({"width": 64, "height": 64, **fields}) for fields in JOBS]
    samples = [Sample(Task(key, each), 0, denoiser.kind_of(each), 2) for key, each in enumerate(requests)]
    assert denoiser.begin(samples) == {}
    while stepping := [sample for sample in samples if not sample.finished]:
        for kind in {sample.kind for sample in stepping}:
            alike = [sample for sample in stepping if sample.kind == kind]
            assert denoiser.step(alike, 100) == {}
    assert [sample.step for sample in samples] == [sample.steps for sample in samples]
    for sample, fields in zip(samples, JOBS, strict=True):
        finished(denoiser, sample)
        difference = (state_of(sample).run.result[0] - alone(folders, fields)).abs().max()
        assert difference <= 1e-4, fields


def test_a_model_that_cannot_begin_late_is_no_refiner(folders: tuple[Path, Path], tmp_path: Path) -> None:
    other = save("Stable Diffusion 1", tmp_path)
    with pytest.raises(ModelUnavailable, match="cannot refine"):
        load(ModelSettings(name=str(folders[0]), refiner=str(other), device="cpu"))
