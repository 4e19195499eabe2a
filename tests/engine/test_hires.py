"""Pictures in two passes, in one batch with others, against diffusers' own pipelines called one after the other."""

import inspect
from pathlib import Path
from typing import Any
from unittest.mock import patch

import diffusers
import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from stablediffusiond import upscalers
from stablediffusiond.engine.hires import enlarged
from stablediffusiond.engine.image_run import state_of
from stablediffusiond.engine.job import Kind, Sample, Task
from stablediffusiond.engine.models import load_pipeline
from stablediffusiond.engine.pipeline_denoiser import PipelineDenoiser
from stablediffusiond.errors import InvalidRequest, JobError, ModelError
from stablediffusiond.messages.complete_request import CompleteRequest
from stablediffusiond.messages.request import Request
from stablediffusiond.settings import ModelSettings
from stablediffusiond.upscalers import OfLatents, OfPixels
from tests.engine.families import save
from tests.engine.finishing import all_finished, finished

pytestmark = pytest.mark.filterwarnings("ignore:__array_(_ implementation|wrap__ must):DeprecationWarning")

Fields = dict[str, Any]
BASE: Fields = {"prompt": "a cat", "steps": 4, "width": 64, "height": 64, "guidance_scale": 4.0}
#: One without; latents; latents to another shape; pixels; with a number of steps of its own.
JOBS: list[Fields] = [
    {"seed": 1},
    {"seed": 2, "hires": {"scale": 2, "strength": 0.6, "steps": 5}},
    {"seed": 3, "hires": {"width": 128, "height": 96, "upscaler": "Latent (bicubic antialiased)"}},
    {"seed": 4, "steps": 6, "hires": {"scale": 1.5, "upscaler": "lanczos", "strength": 0.5, "guidance_scale": 2}},
    {"seed": 5, "width": 128, "height": 128},
]
FAMILIES = ["Stable Diffusion 1", "Stable Diffusion XL", "Stable Diffusion 3", "FLUX.1 dev"]


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(request.param, tmp_path_factory.mktemp("family"))


def opened(folder: Path | str) -> PipelineDenoiser:
    with patch("stablediffusiond.engine.arguments.own_pixels", lambda _: (64, 64)):
        return PipelineDenoiser(load_pipeline(ModelSettings(name=str(folder), device="cpu", dtype="float32")), "tiny")


def samples_of(denoiser: PipelineDenoiser, jobs: list[Fields]) -> list[Sample]:
    made = []
    for key, fields in enumerate(jobs):
        request, _ = denoiser.complete(Request.from_fields({**BASE, "id": "x", **fields})[0])
        made.append(Sample(Task(key, request), 0, denoiser.kind_of(request), denoiser.rows_of(request)))
    return made


def stepped(denoiser: PipelineDenoiser, jobs: list[Fields]) -> list[Sample]:
    samples = samples_of(denoiser, jobs)
    assert denoiser.begin(samples) == {}
    while stepping := [sample for sample in samples if not sample.finished]:
        assert denoiser.step([each for each in stepping if each.kind == stepping[0].kind], 64) == {}
    return samples


def alone(folder: Path, request: CompleteRequest) -> torch.Tensor:
    """What diffusers' two pipelines make, (3, H, W)."""
    base = DiffusionPipeline.from_pretrained(folder)
    stem = type(base).__name__.removesuffix("Pipeline")
    given: Fields = {"prompt": request.prompt}
    hires, sides = request.hires, (request.width, request.height)
    first = {
        **given, "width": sides[0], "height": sides[1], "num_inference_steps": request.steps,
        "guidance_scale": request.guidance_scale, "generator": torch.Generator().manual_seed(request.seed),
    }  # fmt: skip
    if hires is None:
        plain: torch.Tensor = base(**first, output_type="pt").images[0]
        return plain
    method = upscalers.BUILT_IN[hires.upscaler]
    assert request.second_size
    wide, high = request.second_size
    image: Any
    if isinstance(method, OfPixels):
        pixels = base(**first, output_type="np").images[0]
        picture = Image.fromarray((pixels * 255).round().astype(np.uint8))
        image = picture.resize((wide, high), Image.Resampling[method.resampling])
    else:
        image = larger(base, base(**first, output_type="latent").images, method, (wide, high))
    second = getattr(diffusers, f"{stem}Img2ImgPipeline")(**base.components)
    takes_size = {"width": wide, "height": high}
    if "width" not in inspect.signature(second.__call__).parameters:
        takes_size = {}
    made: torch.Tensor = second(
        **given, **takes_size, image=image, strength=hires.strength, num_inference_steps=hires.steps or request.steps,
        guidance_scale=request.guidance_scale if hires.guidance_scale is None else hires.guidance_scale,
        generator=torch.Generator().manual_seed(request.seed), output_type="pt",
    ).images[0]  # fmt: skip
    return made


def larger(base: Any, latents: torch.Tensor, method: OfLatents, size: tuple[int, int]) -> torch.Tensor:
    """As A1111: stretched by the larger of the two scales, and the middle of that."""
    scale = base.vae_scale_factor
    if latents.ndim == 3:
        latents = base._unpack_latents(latents, BASE["height"], BASE["width"], scale)
    wide, high = size[0] // scale, size[1] // scale
    side = max(wide, high)
    square = torch.nn.functional.interpolate(latents, (side, side), mode=method.mode, antialias=method.antialias)
    top = (side - high) // 2
    return square[:, :, top : top + high, :wide]


def test_pictures_in_two_passes_step_with_others_and_are_what_diffusers_makes(folder: Path) -> None:
    denoiser = opened(folder)
    samples = stepped(denoiser, JOBS)
    all_finished_by_size = [finished(denoiser, sample) for sample in samples]
    made = [state_of(sample).run.result[0] for sample in samples]
    references = [alone(folder, sample.task.request) for sample in samples]
    for sample, one, reference, pixels in zip(samples, made, references, all_finished_by_size, strict=True):
        assert one.shape == reference.shape
        assert (one - reference).abs().max() <= 2e-4, sample.task.request.hires
        facts = denoiser.facts(sample)
        assert pixels.shape[:2] == (facts.height, facts.width)
        assert sample.step == sample.steps
    plain = torch.nn.functional.interpolate(made[0][None], scale_factor=2)[0]
    assert (made[1] - plain).abs().max() > 0.05, "else the second pass has changed nothing"
    assert (made[1] - made[4]).abs().max() > 0.05, "nor are these two the same picture"


def test_a_second_pass_steps_together_with_pictures_of_its_size() -> None:
    denoiser = opened("doodle")
    large = {"width": 128, "height": 128}
    samples = samples_of(denoiser, [{"hires": {"scale": 2}}, {**large, "steps": 12}])
    assert denoiser.begin(samples) == {}
    two = samples[0]
    assert two.kind.sides == (64, 64)
    assert two.steps == 4 + 2, "those of the second pass are known before it begins"
    while two.kind.sides == (64, 64):
        assert denoiser.step([two], 64) == {}
    assert not two.finished
    assert two.step == 4
    assert two.kind == samples[1].kind, "so they may share a call"
    assert denoiser.step(samples, 64) == {}
    assert [sample.step for sample in samples] == [5, 1]


def test_latents_that_are_no_numbers_fail_their_own_picture() -> None:
    denoiser = opened("doodle")
    samples = samples_of(denoiser, [{"hires": {"scale": 2, "upscaler": "Lanczos"}}, {}])
    assert denoiser.begin(samples) == {}
    broken, whole = samples
    state_of(broken).scheduler.replace = lambda latents: latents * torch.nan
    failures: dict[int, JobError] = {}
    while not failures:
        failures = denoiser.step(samples, 64)
    assert isinstance(failures[0], ModelError)
    assert finished(denoiser, whole).any()


def test_a_model_that_draws_no_picture_on_says_so(tmp_path: Path) -> None:
    denoiser = opened(save("SANA", tmp_path))
    with pytest.raises(InvalidRequest, match="no second pass"):
        samples_of(denoiser, [{"hires": {"scale": 2}}])


@given(st.sampled_from(list(upscalers.BUILT_IN.values())), st.integers(1, 4), st.integers(1, 4))
def test_latents_of_one_value_keep_it_at_every_size(method: upscalers.BuiltIn, wide: int, high: int) -> None:
    if isinstance(method, OfPixels):
        return
    latents = torch.tensor([1.5, -2.0]).reshape(1, 2, 1, 1, 1).expand(1, 2, 1, 8, 6)
    made = enlarged(latents, Kind(48, 64), Kind(48 * wide, 64 * high), method)
    assert made.shape == (1, 2, 1, 8 * high, 6 * wide)
    assert torch.allclose(made, latents[..., :1, :1].expand_as(made), atol=1e-5)


def test_the_middle_is_kept_where_the_proportions_are_others() -> None:
    latents = torch.arange(8.0).reshape(1, 1, 1, 8).expand(1, 1, 8, 8)
    made = enlarged(latents, Kind(64, 64), Kind(64, 128), OfLatents("nearest"))
    assert made[0, 0, 0].tolist() == [2, 2, 3, 3, 4, 4, 5, 5]


def test_pictures_fail_one_by_one_where_all_are_decoded_between_two_passes() -> None:
    denoiser = opened("doodle")
    jobs = [{"seed": seed, "hires": {"scale": 1.5, "upscaler": "Nearest"}} for seed in (1, 2)]
    samples = stepped(denoiser, jobs)
    pictures = all_finished(denoiser, samples)
    assert {picture.shape for picture in pictures} == {(96, 96, 3)}
    assert not isinstance(pictures[0], JobError)
    assert (pictures[0] != pictures[1]).any()
