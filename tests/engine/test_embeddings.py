"""Textual inversion: words that stand for vectors, against diffusers' own way, in prompts and negative prompts."""

from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from diffusers import DiffusionPipeline
from safetensors.torch import save_file

from stablediffusiond.engine.job import Sample, Task
from stablediffusiond.engine.models import load_pipeline
from stablediffusiond.engine.pipeline_denoiser import PipelineDenoiser
from stablediffusiond.errors import InvalidRequest, ModelError
from stablediffusiond.messages.complete_request import CompleteRequest
from stablediffusiond.settings import FolderSettings, ModelSettings
from tests.engine.families import save
from tests.engine.finishing import all_finished

# diffusers' sigma schedulers hand tensors to numpy in a way that numpy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array_(_ implementation|wrap__ must):DeprecationWarning")

FAMILIES = ["Stable Diffusion 1", "Stable Diffusion XL"]
#: Ours, and what stands for it with diffusers, whose words are tokens of the tokenizer.
PROMPTS = [
    ("a cat", "", "a cat", ""),
    ("a cat, Bad-Style-2", "", "a cat, <style>", ""),
    ("a dog", "bad-style-2, grey", "a dog", "<style>, grey"),
    ("bad-style-2 and bad-style-2", "", "<style> and <style>", ""),
]


def vectors(widths: dict[str, int]) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    return {name: torch.randn(3, width, generator=generator) for name, width in widths.items()}


def opened(folder: Path, embeddings: Path) -> PipelineDenoiser:
    settings = ModelSettings(name=str(folder), device="cpu", dtype="float32")
    with patch("stablediffusiond.engine.arguments.own_pixels", lambda _: (64, 64)):
        return PipelineDenoiser(load_pipeline(settings), "tiny", folders=FolderSettings(embeddings=embeddings))


@pytest.fixture(scope="module", params=FAMILIES)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[PipelineDenoiser, Any]:
    folder = save(request.param, tmp_path_factory.mktemp("family"))
    reference = DiffusionPipeline.from_pretrained(folder)
    reference.set_progress_bar_config(disable=True)
    embeddings = folder.parent / "embeddings"
    embeddings.mkdir()
    widths = {"clip_l": reference.text_encoder.config.hidden_size}
    if hasattr(reference, "text_encoder_2"):
        widths["clip_g"] = reference.text_encoder_2.config.hidden_size
    made = vectors(widths)
    if len(made) == 1:
        torch.save({"string_to_param": {"*": made["clip_l"]}}, embeddings / "bad-style-2.pt")
    else:
        save_file(made, embeddings / "bad-style-2.safetensors")
    denoiser = opened(folder, embeddings)
    for end, name in (("", "clip_l"), ("_2", "clip_g")):
        if name in made:
            encoder, tokenizer = (getattr(reference, f"{part}{end}") for part in ("text_encoder", "tokenizer"))
            reference.load_textual_inversion(made[name], token="<style>", text_encoder=encoder, tokenizer=tokenizer)
    return denoiser, reference


def drawn(denoiser: PipelineDenoiser, prompts: list[tuple[str, str]]) -> list[torch.Tensor]:
    samples = []
    for key, (prompt, negative) in enumerate(prompts):
        asked = {"prompt": prompt, "negative_prompt": negative, "seed": key, "steps": 3 + key, "width": 64, "height": 64}
        request = CompleteRequest.model_validate(asked)
        assert denoiser.names_files(request)
        task = Task(key, request, files=denoiser.read_files(request))
        samples.append(Sample(task, 0, denoiser.kind_of(request), 2))
    assert denoiser.begin(samples) == {}
    while stepping := [sample for sample in samples if not sample.finished]:
        assert denoiser.step(stepping, 64) == {}
    return [torch.as_tensor(pixels).permute(2, 0, 1).float() / 255 for pixels in all_finished(denoiser, samples)]


def test_a_word_stands_for_its_vectors(model: tuple[PipelineDenoiser, Any]) -> None:
    denoiser, reference = model
    made = drawn(denoiser, [(prompt, negative) for prompt, negative, *_ in PROMPTS])
    for key, (_, _, prompt, negative) in enumerate(PROMPTS):
        image = reference(
            prompt, negative_prompt=negative or None, num_inference_steps=3 + key, width=64, height=64, output_type="pt",
            guidance_scale=7.5, generator=torch.Generator().manual_seed(key),
        ).images[0]  # fmt: skip
        assert (made[key] - image).abs().max() < 1.5 / 255, prompt


def test_the_comparison_would_see_a_word_that_is_not_heard(model: tuple[PipelineDenoiser, Any]) -> None:
    denoiser, _ = model
    without, heard = (drawn(denoiser, [(prompt, "")])[0] for prompt in ("a cat, bad-style-3", "a cat, bad-style-2"))
    assert (without - heard).abs().max() > 4 / 255


def test_a_word_is_no_part_of_another(model: tuple[PipelineDenoiser, Any]) -> None:
    denoiser, _ = model
    request = CompleteRequest(prompt="a cat, bad-style-20, notbad-style-2")
    files: Any = denoiser.read_files(request)
    assert files.embeddings == ()
    plain: Any = denoiser.read_files(request.model_copy(update={"prompt": "bad-style-2", "prompt_syntax": "plain"}))
    assert plain.embeddings == ()


def test_a_weighted_word_weighs(model: tuple[PipelineDenoiser, Any]) -> None:
    denoiser, _ = model
    plain, weighted = (drawn(denoiser, [(prompt, "")])[0] for prompt in ("cat bad-style-2", "cat (bad-style-2:1.6)"))
    assert (plain - weighted).abs().max() > 2 / 255


class Code:
    """Of a pickle that would run something."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("run",))


def test_what_is_no_embedding_is_refused_by_its_name(model: tuple[PipelineDenoiser, Any], tmp_path: Path) -> None:
    denoiser, _ = model
    torch.save({"string_to_param": {"*": torch.ones(2, 999)}}, tmp_path / "wide.pt")
    save_file({"lora_unet_a.lora_down.weight": torch.ones(90, 2)}, tmp_path / "lora.safetensors")
    torch.save({"a": Code()}, tmp_path / "code.pt")
    (tmp_path / "broken.safetensors").write_bytes(b"no file of this kind")
    with patch.object(denoiser._pipelines.embeddings._files, "_folder", tmp_path):
        for name, error, said in (
            ("wide", InvalidRequest, "has vectors of width 999, for another family"),
            ("lora", InvalidRequest, "is a LoRA"),
            ("code", ModelError, "cannot be read"),
            ("broken", ModelError, "cannot be read"),
        ):
            with pytest.raises(error, match=said):
                denoiser.read_files(CompleteRequest(prompt=name))
