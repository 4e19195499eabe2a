"""Images that step together are the images that diffusers' own pipelines draw one at a time."""

import base64
import io
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionImg2ImgPipeline
from numpy.typing import NDArray
from PIL import Image

from stablediffusiond import samplers
from stablediffusiond.engine import schedulers
from stablediffusiond.engine.capacity import Capacity
from stablediffusiond.engine.engine import Engine
from stablediffusiond.engine.image_run import state_of
from stablediffusiond.engine.job import Begun, Drawn, Event, Kind, Sample, Task
from stablediffusiond.engine.pipeline_denoiser import PipelineDenoiser
from stablediffusiond.messages.complete_request import CompleteRequest
from stablediffusiond.pictures.opening import open_init_image
from tests.engine.finishing import finished

# diffusers' sigma schedulers hand tensors to numpy in a way that numpy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array_(_ implementation|wrap__ must):DeprecationWarning")

Fields = dict[str, Any]
Results = list[tuple[torch.Tensor, NDArray[np.uint8]]]

#: Three jobs of different length and guidance, and the tick at which each joins.
JOBS: list[tuple[int, Fields]] = [
    (0, {"prompt": "a red cat", "seed": 1, "steps": 7, "guidance_scale": 7.5}),
    (2, {"prompt": "blue dog", "negative_prompt": "ugly", "seed": 2, "steps": 12, "guidance_scale": 5.0}),
    (4, {"prompt": "tree", "seed": 3, "steps": 9, "guidance_scale": 1.0}),
]
SAMPLERS = [*samplers.NAMES, "Euler Karras", "DPM++ 2M Karras", "UniPC Karras", "LMS Karras", "Heun Exponential"]


def request(**fields: Any) -> CompleteRequest:
    return CompleteRequest.from_fields({"id": "job", **fields})[0]


def init_image() -> Image.Image:
    ramp = np.arange(64 * 64 * 3, dtype=np.uint32).reshape(64, 64, 3) * 7 % 256
    return Image.fromarray(ramp.astype(np.uint8))


def init_field() -> str:
    out = io.BytesIO()
    init_image().save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


def task_of(key: int, wish: CompleteRequest) -> Task:
    picture = open_init_image(wish.image, 64, 64) if wish.image else None
    return Task(key, wish, init_image=picture)


def begun(denoiser: PipelineDenoiser, task: Task, index: int = 0) -> Sample:
    sample = Sample(task, index, denoiser.kind_of(task.request), denoiser.rows_of(task.request))
    assert denoiser.begin([sample]) == {}
    return sample


def latents_of(sample: Sample) -> torch.Tensor:
    """As the last step left them."""
    latents = state_of(sample).scheduler.latents
    assert latents is not None
    return latents


def together(denoiser: PipelineDenoiser, jobs: list[tuple[int, Fields]]) -> Results:
    """Each job's only image, all drawn in one batch, each joining at its tick."""
    waiting = [(tick, key, request(**fields)) for key, (tick, fields) in enumerate(jobs)]
    running: dict[int, Sample] = {}
    drawn: dict[int, tuple[torch.Tensor, NDArray[np.uint8]]] = {}
    tick = 0
    while len(drawn) < len(jobs):
        for joins, key, each in waiting:
            if joins == tick:
                running[key] = begun(denoiser, task_of(key, each))
        assert denoiser.step(list(running.values()), 100) == {}
        for key, sample in list(running.items()):
            if sample.finished:
                drawn[key] = (latents_of(sample), finished(denoiser, running.pop(key)))
        tick += 1
    return [drawn[key] for key in sorted(drawn)]


def alone(pipeline: Any, fields: Fields, sampler: str | None) -> tuple[torch.Tensor, NDArray[np.uint8]]:
    """What diffusers' own pipeline draws."""
    own = pipeline.scheduler
    options: Fields = {
        "prompt": fields["prompt"], "negative_prompt": fields.get("negative_prompt"),
        "num_inference_steps": fields["steps"], "guidance_scale": fields["guidance_scale"], "eta": fields.get("eta", 0.0),
    }  # fmt: skip
    drawer: Any = pipeline
    if "image" in fields:
        drawer = StableDiffusionImg2ImgPipeline(**pipeline.components, requires_safety_checker=False)
        drawer.set_progress_bar_config(disable=True)
        options |= {"image": init_image(), "strength": fields["strength"]}
    elif "width" in fields:
        options |= {"width": fields["width"], "height": fields["height"]}
    latents: list[torch.Tensor] = []

    def keep(_: Any, step: int, timestep: Any, given: Fields) -> Fields:
        latents[:] = [given["latents"].clone()]
        return {}

    drawer.scheduler = schedulers.make(samplers.find(sampler) if sampler else None, own)
    generator = torch.Generator().manual_seed(fields["seed"])
    [picture] = drawer(**options, generator=generator, callback_on_step_end=keep).images
    pipeline.scheduler = own
    return latents[0], np.asarray(picture)


def assert_same(pipeline: Any, jobs: list[tuple[int, Fields]], drawn: Results, sampler: str | None) -> None:
    for (_, fields), (latents, pixels) in zip(jobs, drawn, strict=True):
        expected_latents, expected_pixels = alone(pipeline, fields, sampler)
        error = (latents - expected_latents).abs().max() / expected_latents.abs().max()
        assert error <= 1e-4, fields
        assert np.abs(pixels.astype(int) - expected_pixels.astype(int)).max() <= 1, fields


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_txt2img_together_is_txt2img_alone(pipeline: Any, denoiser: PipelineDenoiser, sampler: str) -> None:
    jobs = [(tick, {**fields, "sampler": sampler}) for tick, fields in JOBS]
    assert_same(pipeline, jobs, together(denoiser, jobs), sampler)


#: LMS and PLMS differ from diffusers on purpose, and IPNDM cannot begin with an image (test_schedulers.py).
IMG2IMG_SAMPLERS = [name for name in SAMPLERS if name.partition(" ")[0] not in {"LMS", "PLMS", "IPNDM"}]


@pytest.mark.parametrize("sampler", IMG2IMG_SAMPLERS)
def test_img2img_together_is_img2img_alone(pipeline: Any, denoiser: PipelineDenoiser, sampler: str) -> None:
    strengths = (0.75, 0.5, 1.0)
    jobs = [
        (tick, {**fields, "sampler": sampler, "image": init_field(), "strength": strength})
        for (tick, fields), strength in zip(JOBS, strengths, strict=True)
    ]
    assert_same(pipeline, jobs, together(denoiser, jobs), sampler)


def test_every_sampler_and_both_kinds_of_job_fit_into_one_batch(pipeline: Any, denoiser: PipelineDenoiser) -> None:
    names = ["DDIM", "Euler a", "PLMS", "DPM++ 2M Karras", "Heun", "LCM"]
    jobs = [(place % 3, {**JOBS[place % 3][1], "sampler": name, "seed": place}) for place, name in enumerate(names)]
    jobs.append((1, {**JOBS[1][1], "sampler": "UniPC", "image": init_field(), "strength": 0.6}))
    drawn = together(denoiser, jobs)
    for job, one in zip(jobs, drawn, strict=True):
        assert_same(pipeline, [job], [one], job[1]["sampler"])


def test_a_model_that_predicts_v_is_drawn_alike(pipeline_v2: Any) -> None:
    drawn = together(PipelineDenoiser(pipeline_v2, "tiny"), JOBS)
    assert_same(pipeline_v2, JOBS, drawn, None)


def test_eta_adds_the_images_own_noise(pipeline: Any, denoiser: PipelineDenoiser) -> None:
    jobs = [(tick, {**fields, "sampler": "DDIM", "eta": 0.7}) for tick, fields in JOBS]
    assert_same(pipeline, jobs, together(denoiser, jobs), "DDIM")


def test_other_sizes_than_the_models_own(pipeline: Any, denoiser: PipelineDenoiser) -> None:
    jobs = [(0, {**JOBS[0][1], "width": 96, "height": 64})]
    [(_, pixels)] = drawn = together(denoiser, jobs)
    assert pixels.shape == (64, 96, 3)
    assert_same(pipeline, jobs, drawn, None)


def test_image_k_of_a_job_is_a_job_with_seed_plus_k(denoiser: PipelineDenoiser) -> None:
    fields = {"prompt": "a red cat", "seed": 40, "steps": 4, "sampler": "Euler a"}
    several = Task(1, request(**fields, count=3))
    batch = [begun(denoiser, several, index) for index in range(3)]
    for _ in range(4):
        denoiser.step(batch, 100)
    [(latents, _)] = together(denoiser, [(0, {**fields, "seed": 42})])
    assert torch.allclose(latents_of(batch[2]), latents, rtol=1e-4, atol=1e-4)
    assert denoiser.facts(batch[2]).seed == 42
    assert denoiser.facts(batch[2]).sampler == "Euler a"


def test_img2img_makes_at_least_one_step(denoiser: PipelineDenoiser) -> None:
    for strength in (0.001, 0.003, 0.0999):
        sample = begun(denoiser, task_of(1, request(prompt="x", image=init_field(), strength=strength, steps=10)))
        assert sample.steps == 1
        noise_level = float(sample.state.run.call.arguments["timestep"].values[0])  # type: ignore[attr-defined]
        assert noise_level == pytest.approx(1000 * strength, abs=2)


def test_a_sampler_that_cannot_begin_with_an_image_says_so(denoiser: PipelineDenoiser) -> None:
    task = task_of(1, request(prompt="x", image=init_field(), sampler="IPNDM"))
    sample = Sample(task, 0, denoiser.kind_of(task.request), 2)
    [error] = denoiser.begin([sample]).values()
    assert (error.code, str(error)) == ("invalid_request", "IPNDM cannot begin with an image")


def test_the_models_own_scheduler_is_named_in_the_facts(denoiser: PipelineDenoiser) -> None:
    sample = begun(denoiser, Task(1, request(prompt="x", steps=2)))
    facts = denoiser.facts(sample)
    assert (facts.sampler, facts.width, facts.height, facts.model) == ("DDIM", 64, 64, "tiny")


def test_images_that_make_way_for_others_are_drawn_alike(pipeline: Any, denoiser: PipelineDenoiser) -> None:
    """Mixed samplers, sizes and priorities, two images in a call; the engine's loop, tick by tick."""
    wishes: list[Fields] = [
        {**JOBS[0][1], "sampler": "Euler a", "steps": 9, "priority": "low"},
        {**JOBS[0][1], "sampler": "DPM++ 2M Karras", "steps": 8, "priority": "low"},
        {**JOBS[0][1], "sampler": "Heun", "steps": 5, "priority": "normal", "width": 96, "height": 64},
        {**JOBS[0][1], "sampler": "LCM", "steps": 4, "priority": "high"},
        {**JOBS[0][1], "sampler": "UniPC", "steps": 6, "priority": "high", "image": init_field(), "strength": 0.7},
        {**JOBS[0][1], "sampler": "PLMS", "steps": 7, "priority": "normal"},
    ]
    drawn: dict[int, NDArray[np.uint8]] = {}
    begun_at: dict[int, int] = {}
    tick = 0

    def on_event(event: Event) -> None:
        if isinstance(event, Begun):
            begun_at[event.task.key] = tick
        if isinstance(event, Drawn):
            drawn[event.task.key] = event.pixels

    engine = Engine(denoiser, Capacity(Kind(64, 64), {4: 1.0}), progress_interval_seconds=1e9, on_event=on_event)
    while len(drawn) < len(wishes):
        if tick < len(wishes):
            engine.submit(task_of(tick, request(**wishes[tick])))
        engine._take_in()
        engine.step()
        tick += 1
    assert max(begun_at.values()) < 15
    for key, wish in enumerate(wishes):
        _, expected = alone(pipeline, {**wish, "negative_prompt": wish.get("negative_prompt")}, wish["sampler"])
        assert np.abs(drawn[key].astype(int) - expected.astype(int)).max() <= 1, wish["sampler"]
