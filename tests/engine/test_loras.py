"""Pictures with LoRAs of their own, drawn in one batch, against diffusers with peft, one at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from diffusers import DiffusionPipeline

from stablediffusiond.engine.job import Sample, Task
from stablediffusiond.engine.loras.by_rows import AppliedLora
from stablediffusiond.engine.loras.fusing import fuse
from stablediffusiond.engine.models import load, load_pipeline
from stablediffusiond.engine.networks import denoiser_of
from stablediffusiond.engine.pipeline_denoiser import PipelineDenoiser
from stablediffusiond.errors import ModelUnavailable
from stablediffusiond.messages.complete_request import CompleteRequest
from stablediffusiond.messages.loras import LoraUse
from stablediffusiond.settings import FolderSettings, ModelSettings
from tests.engine import lora_files
from tests.engine.families import save
from tests.engine.finishing import all_finished

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array_(_ implementation|wrap__ must):DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*FluxPosEmbed.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Already found a `peft_config`:UserWarning"),  # what diffusers has peft do
]

Weights = dict[str, float]
#: What each picture of a batch asks for: nothing, one, another, two, and two pictures the same.
SETS: list[Weights] = [{}, {"ink": 0.8}, {"wool": 1.0}, {"ink": 0.5, "wool": -0.7}, {"wool": 0.3}, {"wool": 0.3}]


def _stable_diffusion(pipeline: Any, folder: Path) -> list[Path]:
    return [
        lora_files.kohya(pipeline, folder / "ink.safetensors", 1, convolutions=True),
        lora_files.old_diffusers(pipeline, folder / "wool.safetensors", 2, rank=8),
    ]


def _stable_diffusion_xl(pipeline: Any, folder: Path) -> list[Path]:
    parts = ("unet", "text_encoder", "text_encoder_2")
    return [
        lora_files.kohya(pipeline, folder / "ink.safetensors", 1),
        lora_files.peft(pipeline, folder / "below" / "wool.safetensors", 2, rank=8, parts=parts),
    ]


def _stable_diffusion_3(pipeline: Any, folder: Path) -> list[Path]:
    parts = ("transformer",), ("transformer", "text_encoder", "text_encoder_2")
    names = "ink", "wool"
    return [
        lora_files.peft(pipeline, folder / f"{name}.safetensors", seed, rank=4 * seed, parts=parts[seed - 1])
        for seed, name in enumerate(names, 1)
    ]


def _flux(pipeline: Any, folder: Path) -> list[Path]:
    return [
        lora_files.kohya_flux(pipeline, folder / "ink.safetensors", 1),
        lora_files.peft(pipeline, folder / "wool.safetensors", 2, parts=("transformer",)),
    ]


FAMILIES = {
    "Stable Diffusion 1": _stable_diffusion,
    "Stable Diffusion XL": _stable_diffusion_xl,
    "Stable Diffusion 3": _stable_diffusion_3,
    "FLUX.1 dev": _flux,
}


@dataclass(frozen=True)
class Model:
    """A tiny one with LoRAs: by us, and by diffusers with peft."""

    denoiser: PipelineDenoiser
    reference: Any


@pytest.fixture(scope="module", params=list(FAMILIES))
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = save(request.param, tmp_path_factory.mktemp("family"))
    reference = DiffusionPipeline.from_pretrained(folder)
    reference.set_progress_bar_config(disable=True)
    loras = folder.parent / "loras"
    for path in FAMILIES[request.param](reference, loras):
        reference.load_lora_weights(path, adapter_name=path.stem)
    return Model(with_loras(folder, loras), reference)


def with_loras(folder: Path, loras: Path) -> PipelineDenoiser:
    settings = ModelSettings(name=str(folder), device="cpu", dtype="float32")
    with patch("stablediffusiond.engine.arguments.own_pixels", lambda _: (64, 64)):
        return PipelineDenoiser(load_pipeline(settings), "tiny", folders=FolderSettings(loras=loras))


def request(key: int, weights: Weights) -> CompleteRequest:
    loras = [{"name": name, "scale": scale} for name, scale in weights.items()]
    fields = {"prompt": "a cat", "seed": key, "steps": 3 + key, "guidance_scale": 4.0, "loras": loras}
    return CompleteRequest.model_validate({"width": 64, "height": 64, **fields})


def together(denoiser: PipelineDenoiser, sets: Sequence[Weights]) -> list[torch.Tensor]:
    """The pictures of ``sets``, (3, H, W) from 0 to 1, all in one batch."""
    samples = []
    for key, weights in enumerate(sets):
        asked = request(key, weights)
        files = denoiser.read_files(asked)
        samples.append(Sample(Task(key, asked, files=files), 0, denoiser.kind_of(asked), 2))
    assert denoiser.begin(samples) == {}
    while stepping := [sample for sample in samples if not sample.finished]:
        assert len({sample.kind for sample in stepping}) == 1
        assert denoiser.step(stepping, 64) == {}
    return [torch.as_tensor(pixels).permute(2, 0, 1).float() / 255 for pixels in all_finished(denoiser, samples)]


def alone(reference: Any, key: int, weights: Weights) -> torch.Tensor:
    if weights:
        reference.enable_lora()
        reference.set_adapters(list(weights), list(weights.values()))
    else:
        reference.disable_lora()
    image: torch.Tensor = reference(
        "a cat", num_inference_steps=3 + key, guidance_scale=4.0, width=64, height=64, output_type="pt",
        generator=torch.Generator().manual_seed(key),
    ).images[0]  # fmt: skip
    return image


def test_each_picture_of_a_batch_has_its_own_loras(model: Model) -> None:
    drawn = together(model.denoiser, SETS)
    for key, weights in enumerate(SETS):
        assert (drawn[key] - alone(model.reference, key, weights)).abs().max() < 1.5 / 255, weights


def test_the_comparison_would_see_the_loras_of_a_neighbour(model: Model) -> None:
    wrong = together(model.denoiser, [*SETS[1:], SETS[0]])
    for key, weights in enumerate(SETS[:-2]):  # the last two ask for the same
        assert (wrong[key] - alone(model.reference, key, weights)).abs().max() > 4 / 255, weights


def test_latents_are_those_of_diffusers(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pixels are rounded; the calls of the network are not."""
    seen: list[torch.Tensor] = []
    network = denoiser_of(model.reference)
    forward = network.forward

    def recorded(*args: Any, **kwargs: Any) -> Any:
        answer = forward(*args, **kwargs)
        seen.append(answer[0])
        return answer

    monkeypatch.setattr(network, "forward", recorded)
    alone(model.reference, 0, {"ink": 0.8})
    ours: list[torch.Tensor] = []
    eager = model.denoiser._pipelines.forward._eager

    def noted(**kwargs: Any) -> Any:
        answer = eager(**kwargs)
        ours.append(answer[0])
        return answer

    monkeypatch.setattr(model.denoiser._pipelines.forward, "_eager", noted)
    together(model.denoiser, [{"ink": 0.8}])
    assert len(ours) == len(seen)
    for one, other in zip(ours, seen, strict=True):
        assert (one - other).abs().max() <= 1e-4 * other.abs().max()


def test_nothing_is_left_in_the_network(model: Model) -> None:
    before = {id(layer): layer.__dict__.get("forward") for layer in model.denoiser._pipelines.denoiser.modules()}
    plain = together(model.denoiser, [{}])
    together(model.denoiser, SETS)
    after = {id(layer): layer.__dict__.get("forward") for layer in model.denoiser._pipelines.denoiser.modules()}
    assert after == before
    assert torch.equal(together(model.denoiser, [{}])[0], plain[0])


def test_text_encoders_have_a_scale_of_their_own(model: Model) -> None:
    use = LoraUse(name="wool", scale=1, text_encoder_scale=0)
    [applied] = model.denoiser._pipelines.loras.adapters([use])
    assert isinstance(applied, AppliedLora)
    for network in applied.lora.networks:
        assert applied.scale_in(network) == (0 if network in applied.lora.text_encoders else 1)


def test_one_that_the_settings_name_is_part_of_the_model_and_others_come_beside_it(
    model: Model,
) -> None:
    settings = ModelSettings(name=str(model.reference.config._name_or_path), device="cpu", dtype="float32", loras=("ink:0.8",))
    loras = Path(settings.name).parent / "loras"
    folders = FolderSettings(loras=loras)
    pipeline = load_pipeline(settings)
    fuse(pipeline, settings, folders)
    with patch("stablediffusiond.engine.arguments.own_pixels", lambda _: (64, 64)):
        fused = PipelineDenoiser(pipeline, "tiny", folders=folders)
    drawn = together(fused, [{}, {"wool": -0.7}])
    assert (drawn[0] - alone(model.reference, 0, {"ink": 0.8})).abs().max() < 1.5 / 255
    assert (drawn[1] - alone(model.reference, 1, {"ink": 0.8, "wool": -0.7})).abs().max() < 1.5 / 255
    assert (drawn[0] - alone(model.reference, 0, {})).abs().max() > 4 / 255


@pytest.mark.parametrize("name", ["inc", "ink:much"])
def test_one_of_the_settings_that_is_not_there_ends_the_start(tmp_path: Path, name: str) -> None:
    settings = ModelSettings(loras=(name,))
    lora_files.kohya(load_pipeline(ModelSettings()), tmp_path / "ink.safetensors", 1)
    with pytest.raises(ModelUnavailable, match=r"\[model\] loras"):
        load(settings, folders=FolderSettings(loras=tmp_path))
