"""Models that are kept small: the pictures of a batch are what each is alone, and near those of the whole model."""

from pathlib import Path

import numpy as np
import pytest
import torch

from stablediffusiond.messages.complete_request import CompleteRequest
from tests.engine.families import drawn_together, opened, save

REQUESTS = [CompleteRequest(prompt=prompt, steps=4, seed=seed) for seed, prompt in enumerate(("a cat", "a blue dog"))]


@pytest.fixture(scope="module", params=["Stable Diffusion 1", "FLUX.1 dev"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(request.param, tmp_path_factory.mktemp("family"))


@pytest.mark.parametrize(
    ("settings", "mean_error"),
    [({"quantize": "fp8"}, 8.0), ({"offload": "group"}, 0.01), ({"quantize": "int8", "offload": "group"}, 1.0)],
    ids=str,
)
def test_pictures_share_calls_as_ever(folder: Path, settings: dict[str, str], mean_error: float) -> None:
    denoiser = opened(folder, **settings)
    together = drawn_together(denoiser, REQUESTS)
    for request, got in zip(REQUESTS, together, strict=True):
        [alone] = drawn_together(denoiser, [request])
        assert np.abs(alone.astype(int) - got).max() <= 1
    for expected, got in zip(drawn_together(opened(folder), REQUESTS), together, strict=True):
        assert np.abs(expected.astype(int) - got).mean() <= mean_error


def test_weights_are_kept_in_eight_bits_and_computed_with_in_the_models_own_precision(folder: Path) -> None:
    denoiser = opened(folder, quantize="fp8")
    weights = {parameter.dtype for parameter in denoiser._pipelines.denoiser.parameters()}
    assert torch.float8_e4m3fn in weights
    assert denoiser.dtype == "float32"
