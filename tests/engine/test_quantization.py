"""Weights of eight and of four bits: smaller, of the layers that may have them; each picture is what it is alone."""

from importlib import metadata
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from torchao.quantization import Int8WeightOnlyConfig

from stablediffusiond.engine import quantization
from stablediffusiond.engine.models import load_pipeline
from stablediffusiond.errors import ModelUnavailable
from stablediffusiond.messages.complete_request import CompleteRequest
from stablediffusiond.settings import ModelSettings
from tests.engine.families import drawn_together, opened, save

REQUESTS = [CompleteRequest(prompt=prompt, steps=3, seed=seed) for seed, prompt in enumerate(("a cat", "a blue dog"))]


def bytes_of(tensor: Any) -> int:
    """What a tensor, or the tensors that one is made of, take."""
    state = getattr(tensor, "quant_state", None)
    scales = 0 if state is None else state.absmax.nbytes
    if hasattr(tensor, "__tensor_flatten__"):
        return sum(bytes_of(getattr(tensor, name)) for name in tensor.__tensor_flatten__()[0])
    return int(tensor.nbytes + scales)


def linear_bytes(network: torch.nn.Module) -> int:
    """Those of layers that are wide enough for NF4."""
    layers = (each for each in network.modules() if isinstance(each, torch.nn.Linear))
    return sum(bytes_of(layer.weight) for layer in layers if layer.in_features % 64 == 0)


def kinds(network: torch.nn.Module) -> set[str]:
    return {type(parameter).__name__ for parameter in network.parameters()}


def difference(one: Any, other: Any) -> Any:
    return np.abs(one.astype(int) - other)


@pytest.fixture(scope="module", params=["Stable Diffusion 1", "Stable Diffusion 3", "FLUX.2 klein", "Z-Image"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(request.param, tmp_path_factory.mktemp("family"))


@pytest.mark.parametrize(
    ("mode", "kind", "part", "error"), [("int8", "Int8Tensor", 0.28, 1), ("nf4", "Params4bit", 0.15, 9)]
)
def test_weights_are_smaller_and_pictures_as_each_is_alone(
    folder: Path, mode: str, kind: str, part: float, error: float
) -> None:
    plain, denoiser = opened(folder), opened(folder, quantize=mode)
    assert kind in kinds(denoiser._pipelines.denoiser)
    assert kinds(plain._pipelines.denoiser) == {"Parameter"}
    assert linear_bytes(denoiser._pipelines.denoiser) < part * linear_bytes(plain._pipelines.denoiser)
    assert denoiser.dtype == "float32"
    together = drawn_together(denoiser, REQUESTS)
    for request, got, expected in zip(REQUESTS, together, drawn_together(plain, REQUESTS), strict=True):
        [alone] = drawn_together(denoiser, [request])
        assert difference(alone, got).max() <= 1
        assert difference(expected, got).mean() < error
    assert difference(together[0], together[1]).mean() > 3 * error  # rows of a neighbour would be seen


@pytest.fixture
def flux(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One whose T5 is a large language model."""
    folder = save("FLUX.1 dev", tmp_path)
    encoders = [load_pipeline(ModelSettings(name=str(folder), device="cpu")).components[name] for name in _ENCODERS]
    small, large = (sum(each.numel() for each in encoder.parameters()) for encoder in encoders)
    assert small != large
    # Of the tiny ones it may be either that is the larger.
    monkeypatch.setattr(quantization, "_is_large", lambda network: type(network).__name__ == "T5EncoderModel")
    return folder


_ENCODERS = ("text_encoder", "text_encoder_2")


@pytest.mark.parametrize("mode", ["int8", "nf4"])
def test_large_text_encoders_are_quantised_but_what_loses_too_much(flux: Path, mode: str) -> None:
    denoiser = opened(flux, quantize=mode)
    parts = denoiser._pipelines.base.components
    assert kinds(parts["vae"]) == kinds(parts["text_encoder"]) == {"Parameter"}
    layers = {
        name: type(layer.weight).__name__
        for name, layer in parts["text_encoder_2"].named_modules()
        if isinstance(layer, torch.nn.Linear)
    }
    assert {kind for name, kind in layers.items() if name.endswith(".wo")} == {"Parameter"}
    if mode == "int8":  # those of the tiny one have too few weights in a row for NF4
        assert {kind for name, kind in layers.items() if not name.endswith(".wo")} == {"Int8Tensor"}
    for got, expected in zip(drawn_together(denoiser, REQUESTS), drawn_together(opened(flux), REQUESTS), strict=True):
        assert difference(got, expected).mean() < 5


@pytest.mark.parametrize(("weights", "large"), [(999_999_999, False), (1_000_000_000, True)])
def test_what_is_large(weights: int, large: bool) -> None:
    network = torch.nn.Module()
    network.weight = torch.nn.Parameter(torch.empty(weights, device="meta"), requires_grad=False)
    assert quantization._is_large(network) is large


def test_weights_that_others_use_too_stay_whole() -> None:
    network = torch.nn.Module()
    network.words, network.head, network.other = (
        torch.nn.Embedding(8, 64),
        torch.nn.Linear(64, 8),
        torch.nn.Linear(64, 8),
    )
    network.head.weight = network.words.weight
    assert [name for _, name, _ in quantization._layers(network)] == ["other"]


def test_a_folder_that_is_quantised_already_is_opened_as_it_is(tmp_path: Path) -> None:
    folder = save("FLUX.1 dev", tmp_path)
    expected = drawn_together(opened(folder), REQUESTS)
    config = diffusers.TorchAoConfig(Int8WeightOnlyConfig())
    part = folder / "transformer"
    read = diffusers.FluxTransformer2DModel.from_pretrained(part, quantization_config=config, dtype=torch.float32)
    read.save_pretrained(part)
    denoiser = opened(folder)
    assert "Int8Tensor" in kinds(denoiser._pipelines.denoiser)
    for got, each in zip(drawn_together(denoiser, REQUESTS), expected, strict=True):
        assert difference(got, each).mean() < 1
    assert kinds(opened(folder, quantize="nf4")._pipelines.denoiser) == kinds(denoiser._pipelines.denoiser)


NOWHERE = "/nowhere/model.safetensors"


@pytest.mark.parametrize(("mode", "package"), [("int8", "torchao"), ("nf4", "bitsandbytes")])
def test_a_package_that_is_missing_is_named_before_the_model_is_looked_for(
    mode: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def complaint(found: str | None) -> str:
        def version(name: str) -> str:
            if found is None:
                raise metadata.PackageNotFoundError(name)
            return found

        monkeypatch.setattr(metadata, "version", version)
        with pytest.raises(ModelUnavailable) as caught:
            load_pipeline(ModelSettings.model_validate({"name": NOWHERE, "device": "cpu", "quantize": mode}))
        assert caught.value.exit_code == 78
        return str(caught.value)

    missing = complaint(None)
    assert f'[model] quantize = "{mode}" needs {package}, which is not installed' in missing
    assert f'-m pip install "{package}>=' in missing
    assert f"needs a newer {package} than 0.1: " in complaint("0.1")
    assert "no such file" in complaint("99.0")


def test_a_package_that_does_not_fit_torch_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise OSError("libcudart.so.11.0: cannot open shared object file")

    monkeypatch.setattr("importlib.import_module", broken)
    with pytest.raises(ModelUnavailable, match=r"needs bitsandbytes, which cannot be loaded: libcudart"):
        quantization.check(ModelSettings(quantize="nf4"))


def test_nf4_is_refused_with_offload() -> None:
    with pytest.raises(ModelUnavailable, match=r'take quantize = "int8"'):
        quantization.check(ModelSettings(quantize="nf4", offload="group"))
