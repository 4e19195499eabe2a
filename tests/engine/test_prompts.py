"""Prompts with weights and of any length, under the ``encode_prompt`` of diffusers' own pipelines."""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline

from stablediffusiond.engine.pipeline_denoiser import PipelineDenoiser
from stablediffusiond.engine.prompts.encoding import Reading, encode, read_in_chunks, weighs_words
from stablediffusiond.engine.prompts.tokenizers import ClipTokenizer
from stablediffusiond.errors import InvalidRequest
from stablediffusiond.messages.complete_request import CompleteRequest
from stablediffusiond.messages.request import Request
from tests.engine.families import opened, save

pytestmark = [pytest.mark.filterwarnings("ignore:.*FluxPosEmbed.*:FutureWarning")]

LONG = ", ".join(f"word {number}" for number in range(60))
FAMILIES = ["Stable Diffusion 1", "Stable Diffusion XL", "Stable Diffusion 3", "FLUX.1 dev"]


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(request.param, tmp_path_factory.mktemp("family"))


@pytest.fixture
def pipeline(folder: Path) -> Any:
    return DiffusionPipeline.from_pretrained(folder)


def given(pipeline: Any, prompt: str, negative: str = "") -> dict[str, Any]:
    import inspect

    known = inspect.signature(pipeline.encode_prompt).parameters
    wanted = {"prompt": prompt, "prompt_2": None, "prompt_3": None, "negative_prompt": negative, "device": "cpu",
              "num_images_per_prompt": 1, "do_classifier_free_guidance": True, "max_sequence_length": 32}  # fmt: skip
    return {name: value for name, value in wanted.items() if name in known}


def read(pipeline: Any, prompt: str, negative: str = "", syntax: Any = "a1111") -> tuple[Any, tuple[str, ...]]:
    with torch.no_grad():
        encoded = encode(pipeline, pipeline.encode_prompt, Reading(syntax), (), given(pipeline, prompt, negative))
    return encoded.embeddings, encoded.unseen


def plainly(pipeline: Any, prompt: str, negative: str = "") -> Any:
    with torch.no_grad():
        return pipeline.encode_prompt(**given(pipeline, prompt, negative))


def tensors(found: Any) -> list[torch.Tensor]:
    return [each for each in found if isinstance(each, torch.Tensor)]


def test_nothing_changes_where_nothing_is_weighted(pipeline: Any) -> None:
    for syntax, prompt in (("a1111", "a red cat"), ("plain", "a (red) cat [BREAK]")):
        for one, other in zip(tensors(read(pipeline, prompt, "", syntax)[0]), tensors(plainly(pipeline, prompt)), strict=True):
            assert torch.equal(one, other)


def test_brackets_of_weight_one_mean_nothing(pipeline: Any) -> None:
    for one, other in zip(
        tensors(read(pipeline, "(a red cat:1.0)", "[(ugly)]")[0]), tensors(plainly(pipeline, "a red cat", "ugly")), strict=True
    ):
        assert (one - other).abs().max() <= 1e-5 * max(1.0, other.abs().max().item())


def factors(weighted: torch.Tensor, plain: torch.Tensor) -> torch.Tensor:
    """What each token was multiplied with, (tokens,): the same in each of its numbers."""
    ratios = weighted / plain
    assert (ratios - ratios[:, :1]).abs().max() < 1e-3
    return ratios[:, 0]


@pytest.mark.parametrize("family", ["Stable Diffusion 1", "Stable Diffusion XL"])
def test_a_word_weighs_what_was_asked(family: str, tmp_path: Path) -> None:
    """A worked-out value: begin, end and padding have weight 1, and all are scaled back to the mean there was."""
    pipeline = DiffusionPipeline.from_pretrained(save(family, tmp_path))
    weighted, plain = read(pipeline, "(a red cat:1.5) and")[0][0][0], plainly(pipeline, "a red cat and")[0][0]
    width = pipeline.text_encoder.config.hidden_size
    for part in (slice(0, width), slice(width, None))[: 2 if plain.shape[-1] > width else 1]:
        found = factors(weighted[:, part], plain[:, part])
        letters = len(pipeline.tokenizer("a red cat", add_special_tokens=False).input_ids)
        expected = torch.ones(77)
        expected[1 : 1 + letters] = 1.5
        mean = plain[:, part].mean() / (plain[:, part] * expected[:, None]).mean()
        assert torch.allclose(found, expected * mean, rtol=1e-3)


@pytest.mark.parametrize("family", ["Stable Diffusion 3", "FLUX.1 dev"])
def test_a_word_weighs_as_much_for_t5(family: str, tmp_path: Path) -> None:
    pipeline = DiffusionPipeline.from_pretrained(save(family, tmp_path))
    weighted, plain = read(pipeline, "(a red cat:1.5) and")[0][0][0], plainly(pipeline, "a red cat and")[0][0]
    found = factors(weighted[-32:], plain[-32:])
    assert found[:2].tolist() == pytest.approx([1.5, 1.5], rel=1e-3)
    assert found[-1].item() == pytest.approx(1, rel=1e-3)


@pytest.mark.parametrize("family", ["Stable Diffusion 1", "Stable Diffusion XL"])
def test_clip_keeps_its_mean(family: str, tmp_path: Path) -> None:
    pipeline = DiffusionPipeline.from_pretrained(save(family, tmp_path))
    weighted, plain = read(pipeline, "a (red:1.7) cat")[0][0], plainly(pipeline, "a red cat")[0]
    width = pipeline.text_encoder.config.hidden_size
    parts = [slice(0, width), *([slice(width, None)] if plain.shape[-1] > width else [])]
    for part in parts:
        assert weighted[..., part].mean().item() == pytest.approx(plain[..., part].mean().item(), rel=1e-3)
        assert not torch.allclose(weighted[..., part], plain[..., part])


def test_a_long_prompt_is_read_in_chunks_as_clip_reads_each(tmp_path: Path) -> None:
    """Against each chunk read by itself."""
    pipeline = DiffusionPipeline.from_pretrained(save("Stable Diffusion 1", tmp_path))
    alone = [plainly(pipeline, text)[0] for text in ("a red cat", "a blue dog")]
    read_in_chunks(pipeline.text_encoder)
    (together, negative, *_), _ = read(pipeline, "a red cat BREAK a blue dog", "ugly")
    assert torch.equal(together, torch.cat(alone, dim=1))
    empty = plainly(pipeline, "")[0]
    assert torch.equal(negative, torch.cat([plainly(pipeline, "ugly")[0], empty], dim=1))


def test_a_chunk_ends_behind_a_comma(tmp_path: Path) -> None:
    pipeline = DiffusionPipeline.from_pretrained(save("Stable Diffusion 1", tmp_path))
    own = pipeline.tokenizer
    own.add_tokens([",</w>"])
    tokenizer = ClipTokenizer(own, "a1111")
    comma = own.convert_tokens_to_ids(",</w>")
    room = own.model_max_length - 2
    letters = own("a" * (room - 5), add_special_tokens=False, verbose=False).input_ids
    [first, second] = tokenizer.chunks_of("a" * (len(letters)) + ",</w>" + "b" * 20)
    assert len(first) < room
    assert first[-1].id == comma
    assert len(first) + len(second) == len(letters) + 1 + 20
    assert len(tokenizer.chunks_of("c" * (2 * room))) == 2


def test_what_t5_cannot_read_is_said(tmp_path: Path) -> None:
    pipeline = DiffusionPipeline.from_pretrained(save("FLUX.1 dev", tmp_path))
    read_in_chunks(pipeline.text_encoder)
    _, unseen = read(pipeline, LONG)
    assert len(unseen) == 1
    assert unseen[0][:20] in LONG
    assert read(pipeline, "a red cat")[1] == ()


@pytest.mark.parametrize("family", ["PixArt", "Qwen-Image", "Z-Image", "SANA"])
def test_models_that_read_sentences_take_prompts_letter_by_letter(family: str, tmp_path: Path) -> None:
    assert not weighs_words(DiffusionPipeline.from_pretrained(save(family, tmp_path)))


# Through the denoiser


@pytest.fixture(scope="module")
def denoiser(tmp_path_factory: pytest.TempPathFactory) -> PipelineDenoiser:
    return opened(save("Stable Diffusion 1", tmp_path_factory.mktemp("family")))


def drawn(denoiser: PipelineDenoiser, *requests: dict[str, Any]) -> list[torch.Tensor]:
    from stablediffusiond.engine.job import Sample, Task
    from tests.engine.finishing import all_finished

    samples = []
    for key, fields in enumerate(requests):
        request, _ = Request.from_fields({"seed": 1, "steps": 3, "width": 64, "height": 64, **fields})
        complete, _ = denoiser.complete(request)
        samples.append(Sample(Task(key, complete), 0, denoiser.kind_of(complete), 2))
    assert denoiser.begin(samples) == {}
    for sample in samples:  # prompts of other lengths do not share a call
        while not sample.finished:
            assert denoiser.step([sample], 8) == {}
    return [torch.as_tensor(pixels) for pixels in all_finished(denoiser, samples)]


def test_weights_length_and_clip_skip_change_the_picture(denoiser: PipelineDenoiser) -> None:
    plain, *others = drawn(
        denoiser,
        {"prompt": "a red cat"},
        {"prompt": "a (red:1.8) cat"},
        {"prompt": "a red cat BREAK a blue dog"},
        {"prompt": "a red cat", "clip_skip": 2},
        {"prompt": "a red cat", "negative_prompt": LONG},
    )
    assert all(not torch.equal(plain, other) for other in others)


def test_clip_skip_is_counted_as_a1111_counts(denoiser: PipelineDenoiser, tmp_path: Path) -> None:
    plain, first, second = drawn(
        denoiser, *({"prompt": "a red cat", **skip} for skip in ({}, {"clip_skip": 1}, {"clip_skip": 2}))
    )
    assert torch.equal(plain, first)
    reference = DiffusionPipeline.from_pretrained(save("Stable Diffusion 1", tmp_path))
    read_in_chunks(reference.text_encoder)  # diffusers' own way looks for what transformers has renamed
    image = reference(
        "a red cat", num_inference_steps=3, width=64, height=64, clip_skip=1, output_type="pt",
        generator=torch.Generator().manual_seed(1),
    ).images[0]  # fmt: skip
    assert (second.permute(2, 0, 1).float() / 255 - image).abs().max() < 1.5 / 255
    assert not torch.equal(plain, second)


@pytest.mark.parametrize(("field", "prompt"), [("prompt", "a AND b"), ("negative_prompt", "[a:b:3]")])
def test_what_is_not_done_of_the_dialect_is_refused(denoiser: PipelineDenoiser, field: str, prompt: str) -> None:
    request = CompleteRequest.model_validate({"prompt": "a", field: prompt})
    with pytest.raises(InvalidRequest) as caught:
        denoiser.complete(request)
    assert caught.value.field == field
    denoiser.complete(request.model_copy(update={"prompt_syntax": "plain"}))
