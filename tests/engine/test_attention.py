"""Attention backends of diffusers: those of this machine draw the same pictures, and others are refused by name."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers.models import attention_dispatch
from diffusers.models.attention_dispatch import AttentionBackendName

from stablediffusiond.engine import attention
from stablediffusiond.engine.models import load_pipeline
from stablediffusiond.errors import ModelUnavailable
from stablediffusiond.messages.complete_request import CompleteRequest
from stablediffusiond.settings import ModelSettings
from tests.engine.families import drawn_together, opened, save

REQUESTS = [CompleteRequest(prompt=prompt, steps=2, seed=seed) for seed, prompt in enumerate(("a cat", "a blue dog"))]


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The backends that attention was computed with."""
    names: list[str] = []
    functions = attention_dispatch._AttentionBackendRegistry._backends
    for name, function in list(functions.items()):

        def noting(
            *args: object, _name: AttentionBackendName = name, _function: object = function, **kwargs: object
        ) -> object:
            names.append(_name.value)
            return _function(*args, **kwargs)  # type: ignore[operator]

        monkeypatch.setitem(functions, name, noting)
    return iter([names])


@pytest.mark.parametrize("family", ["FLUX.1 dev", "Z-Image"])
def test_a_backend_is_the_denoisers_and_pictures_stay_the_same(
    family: str, tmp_path: Path, called: Iterator[list[str]]
) -> None:
    [names] = called
    folder = save(family, tmp_path)
    expected = drawn_together(opened(folder), REQUESTS)
    assert set(names) == {"native"}
    denoiser = opened(folder, attention="_native_math")
    names.clear()
    together = drawn_together(denoiser, REQUESTS)
    assert set(names) == {"_native_math"}
    for request, got, other in zip(REQUESTS, together, expected, strict=True):
        [alone] = drawn_together(denoiser, [request])
        assert np.abs(alone.astype(int) - got).max() <= 1
        assert np.abs(other.astype(int) - got).max() <= 1
    names.clear()
    drawn_together(opened(folder), REQUESTS)
    assert set(names) == {"native"}, "another model's is not changed"


def complaint(folder: Path, name: str) -> str:
    with pytest.raises(ModelUnavailable) as caught:
        load_pipeline(ModelSettings(name=str(folder), device="cpu", attention=name))
    assert caught.value.exit_code == 78
    return str(caught.value)


def test_what_cannot_be_used_is_refused_with_what_can(tmp_path: Path) -> None:
    folder = save("FLUX.1 dev", tmp_path)
    unknown = complaint(folder, "flahs")
    assert '[model] attention = "flahs": there is no such backend; here it may be auto, flex, native, ' in unknown
    assert "_native_math" in unknown
    assert "sage" not in unknown.partition("may be")[2], "its package is not installed"
    assert "_native_cudnn" not in unknown.partition("may be")[2], "it is not for a CPU"
    assert "Please install `sageattention" in complaint(folder, "sage")
    assert "No viable backend" in complaint(folder, "_native_cudnn")


@pytest.mark.parametrize("family", ["Stable Diffusion 1", "Stable Diffusion 3"])
def test_networks_with_older_processors_have_pytorchs_and_xformers(family: str, tmp_path: Path) -> None:
    folder = save(family, tmp_path)
    expected = drawn_together(opened(folder), REQUESTS)
    for one, other in zip(expected, drawn_together(opened(folder, attention="native"), REQUESTS), strict=True):
        assert np.array_equal(one, other)
    said = complaint(folder, "_native_math")
    assert "is none that can be told so; here it may be auto, native" in said
    assert "Please install `xformers" in complaint(folder, "xformers")


def test_xformers_is_switched_on_as_older_processors_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "_refusal", lambda *_: None)
    switched: list[bool] = []
    unet = torch.nn.Linear(1, 1)
    unet.dtype = torch.float32  # type: ignore[assignment]
    unet.enable_xformers_memory_efficient_attention = lambda: switched.append(True)  # type: ignore[assignment]
    attention.set_backend(SimpleNamespace(unet=unet), "xformers", torch.device("cpu"))
    assert switched == [True]


def test_what_is_fetched_from_a_hub_is_not_tried_for_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []
    monkeypatch.setattr(attention, "_refusal", lambda backend, *_: tried.append(backend.value))
    attention._usable(AttentionBackendName, torch.device("cpu"), torch.float32)
    assert "flash" in tried
    assert not [name for name in tried if "hub" in name]
