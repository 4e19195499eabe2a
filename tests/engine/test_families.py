"""For every family of models: images that step together are what diffusers' own pipeline draws of each alone."""

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from diffusers.pipelines.auto_pipeline import AutoPipelineForImage2Image
from PIL import Image

from stablediffusiond.engine import call as calls
from stablediffusiond.engine.job import Pixels, Sample, Task
from stablediffusiond.engine.models import load_pipeline
from stablediffusiond.engine.pipeline_denoiser import PipelineDenoiser
from stablediffusiond.messages.request import Request
from stablediffusiond.settings import ModelSettings
from tests.engine.families import FAMILIES, save

# diffusers' sigma schedulers hand tensors to numpy in a way that numpy 2 deprecates, and Chroma its own helpers.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array_(_ implementation|wrap__ must):DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*FluxPosEmbed.*:FutureWarning"),
]

Fields = dict[str, Any]
#: Jobs of different length and guidance, each of which joins one step after the one before it.
JOBS: list[Fields] = [
    {"prompt": "a red cat", "seed": 1, "steps": 4, "guidance_scale": 5.0},
    {"prompt": "a blue dog", "seed": 2, "steps": 6, "guidance_scale": 3.0, "negative_prompt": "ugly"},
    {"prompt": "tree", "seed": 3, "steps": 3, "guidance_scale": 1.0},
]
REDRAWN: Fields = {"prompt": "a car", "seed": 4, "steps": 6, "guidance_scale": 4.0, "strength": 0.6}
PICTURE = Image.fromarray((np.arange(64 * 64 * 3) * 7 % 256).astype(np.uint8).reshape(64, 64, 3))


@pytest.fixture(scope="module", params=list(FAMILIES))
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(request.param, tmp_path_factory.mktemp("family"))


@pytest.fixture(scope="module")
def denoiser(folder: Path) -> PipelineDenoiser:
    return PipelineDenoiser(load_pipeline(ModelSettings(name=str(folder), device="cpu")), "tiny")


@pytest.fixture(scope="module")
def pipeline(folder: Path) -> Any:
    """The same model, which nobody but diffusers has touched."""
    made = DiffusionPipeline.from_pretrained(folder)
    made.set_progress_bar_config(disable=True)
    return made


def jobs_for(denoiser: PipelineDenoiser) -> list[Fields]:
    if "img2img" not in denoiser._pipelines.tasks():
        return JOBS
    return [*JOBS, {**REDRAWN, "image": b"opened already", "type": "img2img"}]


def task(key: int, fields: Fields) -> Task:
    request = Request.model_validate({"width": 64, "height": 64, **fields})
    return Task(key, request, init_image=PICTURE if request.image else None)


def together(denoiser: PipelineDenoiser, jobs: list[Fields]) -> list[tuple[torch.Tensor, Pixels]]:
    """The images of all jobs; one of them is left alone for three steps in the middle."""
    samples = [
        Sample(task(key, fields), 0, denoiser.kind_of(task(key, fields).request), 2) for key, fields in enumerate(jobs)
    ]
    tick = 0
    while not all(sample.finished for sample in samples):
        if tick < len(samples):
            assert denoiser.begin([samples[tick]]) == {}
        stepping = [sample for sample in samples[: tick + 1] if not sample.finished]
        if 2 <= tick < 5 and len(stepping) > 1:
            stepping.remove(samples[1])
        for kind in {sample.kind for sample in stepping}:
            assert denoiser.step([sample for sample in stepping if sample.kind == kind], 100) == {}
        tick += 1
        assert tick < 40
    return [(latents_of(sample), denoiser.finish(sample)) for sample in samples]


def latents_of(sample: Sample) -> torch.Tensor:
    latents = sample.state.scheduler.latents  # type: ignore[attr-defined]
    assert isinstance(latents, torch.Tensor)
    return latents


def alone(pipeline: Any, fields: Fields) -> tuple[torch.Tensor, Pixels]:
    given: Fields = {
        "prompt": fields["prompt"], "negative_prompt": fields.get("negative_prompt"), "width": 64, "height": 64,
        "num_inference_steps": fields["steps"], "guidance_scale": fields["guidance_scale"],
        "use_resolution_binning": False,
    }  # fmt: skip
    if "image" in fields:
        pipeline = AutoPipelineForImage2Image.from_pipe(pipeline)
        pipeline.set_progress_bar_config(disable=True)
        given |= {"image": PICTURE, "strength": fields["strength"]}
    taken = inspect.signature(type(pipeline).__call__).parameters
    given = {name: value for name, value in given.items() if name in taken and value is not None}
    drawn = [
        pipeline(**given, generator=torch.Generator().manual_seed(fields["seed"]), output_type=kind).images
        for kind in ("latent", "pil")
    ]
    return drawn[0], np.asarray(drawn[1][0])


def worst_error(pipeline: Any, jobs: list[Fields], drawn: list[tuple[torch.Tensor, Pixels]]) -> float:
    worst = 0.0
    for fields, (latents, pixels) in zip(jobs, drawn, strict=True):
        expected_latents, expected_pixels = alone(pipeline, fields)
        error = float((latents - expected_latents).abs().max() / expected_latents.abs().max())
        worst = max(worst, error)
        if error <= 1e-4:
            assert np.abs(pixels.astype(int) - expected_pixels.astype(int)).max() <= 1, fields
    return worst


def test_together_is_alone(denoiser: PipelineDenoiser, pipeline: Any) -> None:
    jobs = jobs_for(denoiser)
    assert worst_error(pipeline, jobs, together(denoiser, jobs)) <= 1e-4


def test_rows_given_to_a_neighbour_would_be_seen(
    denoiser: PipelineDenoiser, pipeline: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control of the test above: with everybody's answer moved on to the next, it is wrong by far."""
    right = calls.make_together

    def wrong(given: Any, rows_at_once: int) -> Any:
        answers = right(given, rows_at_once)
        moved = [*answers[1:], answers[0]]
        return moved if len({call.rows for call in given}) == 1 else answers

    monkeypatch.setattr("stablediffusiond.engine.coalescing.make_together", wrong)
    jobs = [{**JOBS[0], "seed": seed, "prompt": f"cat {seed}"} for seed in range(2)]
    assert worst_error(pipeline, jobs, together(denoiser, jobs)) > 1e-3


def test_what_pictures_share_is_after_one_what_it_was_before(denoiser: PipelineDenoiser) -> None:
    def shared() -> list[object]:
        found: list[object] = []
        for name, module in denoiser._pipelines.base.components.items():
            if isinstance(module, torch.nn.Module):
                found += [
                    name,
                    module.training,
                    *((key, value.dtype, value._version) for key, value in module.state_dict().items()),
                ]
                found += [type(each) for each in getattr(module, "attn_processors", {}).values()]
                found += [len(each._forward_hooks) + len(each._forward_pre_hooks) for each in module.modules()]
        return found

    before = shared()
    together(denoiser, jobs_for(denoiser)[-1:])
    assert shared() == before
