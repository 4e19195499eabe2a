"""For every family of models: images that step together are what diffusers' own pipeline draws of each alone."""

import inspect
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from PIL import Image

from stablediffusiond.engine import call as calls
from stablediffusiond.engine.image_run import state_of
from stablediffusiond.engine.job import Sample, Task
from stablediffusiond.engine.pipeline_denoiser import PipelineDenoiser
from stablediffusiond.messages.complete_request import CompleteRequest
from stablediffusiond.messages.request import JobType
from tests.engine.families import DEVICE, FAMILIES, Family, opened, save
from tests.engine.finishing import all_finished

# diffusers' sigma schedulers hand tensors to numpy in a way that numpy 2 deprecates, and Chroma its own helpers.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array_(_ implementation|wrap__ must):DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*FluxPosEmbed.*:FutureWarning"),
]

Fields = dict[str, Any]
#: Jobs of different length and guidance, each of which joins one step after the one before it.
JOBS: dict[JobType, list[Fields]] = {
    "txt2img": [
        {"prompt": "a red cat", "seed": 1, "steps": 4, "guidance_scale": 5.0},
        {"prompt": "a blue dog", "seed": 2, "steps": 6, "guidance_scale": 3.0, "negative_prompt": "ugly"},
        {"prompt": "tree", "seed": 3, "steps": 3, "guidance_scale": 1.0},
    ],
    "img2img": [
        {"prompt": "a car", "seed": 4, "steps": 6, "guidance_scale": 4.0, "strength": 0.6},
        {"prompt": "a house", "seed": 5, "steps": 4, "guidance_scale": 2.0, "strength": 0.9},
    ],
    "inpaint": [
        {"prompt": "a hat", "seed": 6, "steps": 5, "guidance_scale": 4.0, "strength": 0.8},
        {"prompt": "a moon", "seed": 7, "steps": 4, "guidance_scale": 3.0, "strength": 1.0},
    ],
}
PICTURE = Image.fromarray((np.arange(64 * 64 * 3) * 7 % 256).astype(np.uint8).reshape(64, 64, 3))
MASK = Image.fromarray(np.array([[0, 255]], np.uint8).repeat(64, axis=0).repeat(32, axis=1))


@dataclass(frozen=True)
class Model:
    """A tiny one, opened by us and, untouched by us, by diffusers."""

    family: Family
    denoiser: PipelineDenoiser
    pipeline: Any

    @property
    def jobs(self) -> list[Fields]:
        return [{"type": task, **fields} for task in self.family.classes for fields in JOBS[task]]


@pytest.fixture(scope="module", params=list(FAMILIES))
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = save(request.param, tmp_path_factory.mktemp("family"))
    denoiser = opened(folder)
    denoiser.warm_up()
    pipeline = DiffusionPipeline.from_pretrained(folder).to(DEVICE)
    return Model(FAMILIES[request.param], denoiser, pipeline)


def task(key: int, fields: Fields) -> Task:
    given = {"image": b"opened already"} if fields["type"] != "txt2img" else {}
    given |= {"mask": b"opened already"} if fields["type"] == "inpaint" else {}
    request = CompleteRequest.model_validate({"width": 64, "height": 64, **fields, **given})
    return Task(key, request, init_image=PICTURE if request.image else None, mask=MASK if request.mask else None)


Drawn = tuple[torch.Tensor, torch.Tensor]  #: the last latents, and the picture, (3, H, W) from 0 to 1


def together(denoiser: PipelineDenoiser, jobs: list[Fields]) -> list[Drawn]:
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
    all_finished(denoiser, samples)
    return [drawn(sample) for sample in samples]


def drawn(sample: Sample) -> Drawn:
    state = state_of(sample)
    assert state.scheduler.latents is not None
    assert state.run.result.shape == (1, 3, 64, 64)
    return state.scheduler.latents, state.run.result[0]


def alone(model: Model, fields: Fields) -> Drawn:
    kind = model.family.classes[fields["type"]]
    pipeline = model.pipeline if type(model.pipeline) is kind else kind.from_pipe(model.pipeline, torch_dtype=None)
    pipeline.set_progress_bar_config(disable=True)
    guided_by, scale = model.family.guidance, fields["guidance_scale"]
    negative = fields.get("negative_prompt") or (" " if guided_by == "true_cfg_scale" and scale > 1 else None)
    given: Fields = {
        "prompt": fields["prompt"], "negative_prompt": negative, "width": 64, "height": 64, guided_by: scale,
        "num_inference_steps": fields["steps"], "use_resolution_binning": False, "max_area": 64 * 64,
    }  # fmt: skip
    if fields["type"] != "txt2img":
        given |= {"image": PICTURE, "strength": fields["strength"], "mask_image": MASK}
    if guided_by == "guidance_scale" and "true_cfg_scale" in inspect.signature(kind.__call__).parameters:
        del given["negative_prompt"]  # a model that is told its guidance has no use for it
    taken = inspect.signature(kind.__call__).parameters
    given = {name: value for name, value in given.items() if name in taken and value is not None}
    latents, pictures = (
        pipeline(**given, generator=torch.Generator().manual_seed(fields["seed"]), output_type=kind).images
        for kind in ("latent", "pt")
    )
    return latents, pictures[0]


def worst_error(model: Model, jobs: list[Fields], drawn: list[Drawn]) -> float:
    """The largest, relative to the largest value of latents; of pictures, where white is 1."""
    worst = 0.0
    for fields, (latents, picture) in zip(jobs, drawn, strict=True):
        expected_latents, expected_picture = alone(model, fields)
        worst = max(worst, float((picture - expected_picture).abs().max()))
        # Pipelines for inpainting put the rest of the image around what a step made, and some unpack it.
        if fields["type"] != "inpaint" and latents.shape == expected_latents.shape:
            worst = max(worst, float((latents - expected_latents).abs().max() / expected_latents.abs().max()))
    return worst


def test_the_tasks_are_those_of_diffusers(model: Model) -> None:
    assert {
        task: type(pipeline) for task, pipeline in model.denoiser._pipelines.by_task.items()
    } == model.family.classes


def test_together_is_alone(model: Model) -> None:
    assert worst_error(model, model.jobs, together(model.denoiser, model.jobs)) <= 1e-4


def test_rows_given_to_a_neighbour_would_be_seen(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control of the test above: with everybody's answer moved on to the next, it is wrong by far."""
    right = calls.make_together

    def wrong(given: Any, rows_at_once: int) -> Any:
        answers = right(given, rows_at_once)
        moved = [*answers[1:], answers[0]]
        return moved if len({call.rows for call in given}) == 1 else answers

    monkeypatch.setattr("stablediffusiond.engine.coalescing.make_together", wrong)
    jobs = [{**model.jobs[0], "seed": seed, "prompt": f"cat {seed}"} for seed in range(2)]
    assert worst_error(model, jobs, together(model.denoiser, jobs)) > 1e-3


def test_what_pictures_share_is_after_one_what_it_was_before(model: Model) -> None:
    def shared() -> list[object]:
        found: list[object] = []
        for name, module in model.denoiser._pipelines.base.components.items():
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
    together(model.denoiser, model.jobs)
    assert shared() == before
