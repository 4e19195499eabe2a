"""Weights in half precision: what is computed in float32 all the same, and how near the pictures are."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL

from stablediffusiond.messages.complete_request import CompleteRequest
from tests.engine.families import FAMILIES, drawn_together, opened, save

# diffusers' sigma schedulers hand tensors to numpy in a way that numpy 2 deprecates.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array_(_ implementation|wrap__ must):DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*FluxPosEmbed.*:FutureWarning"),
]

REQUESTS = [CompleteRequest(prompt=prompt, steps=4, seed=1) for prompt in ("a red cat", "a blue dog")]


@pytest.mark.parametrize(("dtype", "mean_error"), [("float16", 0.5), ("bfloat16", 3.0)])
@pytest.mark.parametrize("family", ["Stable Diffusion 1", "Stable Diffusion XL", "Stable Diffusion 3", "FLUX.1 dev"])
def test_pictures_in_half_precision_are_near_those_in_float32(
    family: str, dtype: str, mean_error: float, tmp_path: Path
) -> None:
    folder = save(family, tmp_path)
    half = opened(folder, dtype=dtype)
    drawn = drawn_together(half, REQUESTS)
    for expected, got in zip(drawn_together(opened(folder, dtype="float32"), REQUESTS), drawn, strict=True):
        assert np.abs(expected.astype(int) - got).mean() < mean_error
    assert half.dtype == dtype


@pytest.mark.parametrize("family", FAMILIES)
def test_every_network_is_in_the_precision_that_was_asked_for(family: str, tmp_path: Path) -> None:
    """Diffusers' ``from_pipe``, which makes the pipelines of other tasks, would make those of all of them float32."""
    parts = opened(save(family, tmp_path), dtype="bfloat16")._pipelines.base.components
    networks = {name: each for name, each in parts.items() if isinstance(each, torch.nn.Module)}
    kinds = {name: {each.dtype for each in network.parameters()} for name, network in networks.items()}
    assert kinds == {name: {torch.bfloat16} for name in networks}


def test_an_autoencoder_that_asks_for_float32_keeps_it(tmp_path: Path) -> None:
    """Its pipeline would turn it to float32 for each picture, and back."""
    folder = save("Stable Diffusion XL", tmp_path)
    vae = AutoencoderKL.from_pretrained(folder / "vae")
    vae.register_to_config(force_upcast=True)
    vae.save_pretrained(folder / "vae")
    denoiser = opened(folder, dtype="float16")
    modules = denoiser._pipelines.base.components
    assert (modules["vae"].dtype, modules["unet"].dtype) == (torch.float32, torch.float16)
    drawn_together(denoiser, REQUESTS)
    assert (modules["vae"].dtype, modules["unet"].dtype) == (torch.float32, torch.float16)
