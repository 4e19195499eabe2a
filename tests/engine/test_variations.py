"""Variations, pictures that tile, guidance rescaled: beside others in one batch, against worked-out values."""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline

from stablediffusiond.engine.altered import has_edges
from stablediffusiond.engine.job import Sample, Task
from stablediffusiond.engine.networks import denoiser_of
from stablediffusiond.engine.pipeline_denoiser import PipelineDenoiser
from stablediffusiond.engine.variations import between
from stablediffusiond.messages.request import Request
from tests.engine.families import opened, save
from tests.engine.finishing import all_finished

Fields = dict[str, Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save("Stable Diffusion 1", tmp_path_factory.mktemp("family"))


@pytest.fixture(scope="module")
def denoiser(folder: Path) -> PipelineDenoiser:
    return opened(folder)


def samples_of(denoiser: PipelineDenoiser, *requests: Fields) -> list[Sample]:
    samples = []
    for key, fields in enumerate(requests):
        request, _ = Request.from_fields({"prompt": "a cat", "steps": 4, "width": 64, "height": 64, **fields})
        complete, warnings = denoiser.complete(request)
        assert warnings == []
        task = Task(key, complete)
        samples += [Sample(task, index, denoiser.kind_of(complete), 2) for index in range(complete.count)]
    return samples


def drawn(denoiser: PipelineDenoiser, *requests: Fields) -> list[torch.Tensor]:
    """The pictures of ``requests``, (H, W, 3) from 0 to 1; those that are of one kind step together."""
    samples = samples_of(denoiser, *requests)
    assert denoiser.begin(samples) == {}
    while stepping := [sample for sample in samples if not sample.finished]:
        assert denoiser.step([sample for sample in stepping if sample.kind == stepping[0].kind], 8) == {}
    return [torch.as_tensor(pixels).float() / 255 for pixels in all_finished(denoiser, samples)]


def far(one: torch.Tensor, other: torch.Tensor) -> float:
    return (one - other).abs().max().item()


# Variations


def test_a_variation_lies_between_the_pictures_of_two_seeds(denoiser: PipelineDenoiser) -> None:
    varied = [{"seed": 1, "subseed": 2, "subseed_strength": strength} for strength in (0, 1e-4, 0.5, 1)]
    first, second, none, hardly, half, whole = drawn(denoiser, {"seed": 1}, {"seed": 2}, *varied)
    assert far(first, none) == 0
    assert far(first, hardly) < 2 / 255
    assert far(second, whole) < 2 / 255
    assert far(first, half) > 8 / 255 < far(second, half)


def test_variations_have_one_seed_and_each_a_subseed(denoiser: PipelineDenoiser) -> None:
    fields = {"seed": 1, "subseed": 5, "subseed_strength": 0.4}
    first, second, alone = drawn(denoiser, {**fields, "count": 2}, {**fields, "subseed": 6})
    assert far(second, alone) < 1 / 255
    assert far(first, second) > 8 / 255
    facts = [denoiser.facts(each) for each in _begun(denoiser, {**fields, "count": 2})]
    assert [(each.seed, each.subseed) for each in facts] == [(1, 5), (1, 6)]


def _begun(denoiser: PipelineDenoiser, fields: Fields) -> list[Sample]:
    samples = samples_of(denoiser, fields)
    assert denoiser.begin(samples) == {}
    return samples


def test_the_arc_keeps_the_length() -> None:
    one, other = (torch.randn(4, 64, 64, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))
    for strength in (0.0, 0.25, 0.5, 1.0):
        assert between(one, other, strength).std().item() == pytest.approx(1, abs=0.02)
    assert torch.allclose(between(one, other, 0), one)
    assert torch.allclose(between(one, other, 1), other)
    assert torch.allclose(between(one, one, 0.5), one)


# Pictures that tile


def test_a_picture_that_tiles_may_be_shifted(denoiser: PipelineDenoiser, monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise that is shifted by half a picture draws the picture shifted by half: there is no edge."""
    shift = 4  # latents, and so 32 pixels; the tiny network halves its size once
    random = torch.randn

    def shifted(*args: Any, **kwargs: Any) -> torch.Tensor:
        return random(*args, **kwargs).roll((shift, shift), dims=(-2, -1))

    tiled = {"seed": 3, "tiling": True}
    [plain, edged] = drawn(denoiser, tiled, {"seed": 3})
    monkeypatch.setattr(torch, "randn", shifted)
    [moved, edged_moved] = drawn(denoiser, tiled, {"seed": 3})
    pixels = shift * (plain.shape[0] // 8)
    assert far(plain.roll((pixels, pixels), dims=(0, 1)), moved) < 2 / 255
    assert far(edged.roll((pixels, pixels), dims=(0, 1)), edged_moved) > 8 / 255


def test_others_in_the_batch_have_their_edges(denoiser: PipelineDenoiser) -> None:
    [alone] = drawn(denoiser, {"seed": 3})
    _, beside = drawn(denoiser, {"seed": 3, "tiling": True}, {"seed": 3})
    assert far(alone, beside) < 1 / 255
    convolutions = [each for each in denoiser._pipelines.denoiser.modules() if isinstance(each, torch.nn.Conv2d)]
    assert {each.padding_mode for each in convolutions} == {"zeros"}


@pytest.mark.parametrize(("family", "edges"), [("Stable Diffusion XL", True), ("FLUX.1 dev", False), ("PixArt", False)])
def test_models_with_a_number_for_each_place_cannot_tile(family: str, edges: bool, tmp_path: Path) -> None:
    pipeline = DiffusionPipeline.from_pretrained(save(family, tmp_path))
    assert has_edges(denoiser_of(pipeline)) is edges


# Guidance


def test_guidance_is_rescaled_as_diffusers_does_it(denoiser: PipelineDenoiser, folder: Path) -> None:
    ours, plain = drawn(denoiser, {"seed": 4, "guidance_rescale": 0.7}, {"seed": 4})
    reference = DiffusionPipeline.from_pretrained(folder)
    image = reference(
        "a cat", num_inference_steps=4, width=64, height=64, guidance_rescale=0.7, output_type="pt",
        generator=torch.Generator().manual_seed(4),
    ).images[0]  # fmt: skip
    assert far(ours, image.permute(1, 2, 0)) < 1.5 / 255
    assert far(ours, plain) > 3 / 255
