"""Tiny models for those tests that ask for them; the others do without torch, which takes seconds to import."""

import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from stablediffusiond.engine.pipeline_denoiser import PipelineDenoiser


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """What these models compute is too little to be shared out."""
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)


@pytest.fixture(scope="session")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """In the manner of Stable Diffusion 1.x, 64 x 64 pixels."""
    from tests.engine.tiny_models import tiny_pipeline

    return tiny_pipeline(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="session")
def pipeline_v2(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """In the manner of Stable Diffusion 2.x: it predicts v, and its text is wider."""
    from tests.engine.tiny_models import tiny_pipeline

    return tiny_pipeline(tmp_path_factory.mktemp("tokenizer"), text_width=64, prediction_type="v_prediction")


@pytest.fixture(scope="session")
def denoiser(pipeline: Any) -> "PipelineDenoiser":
    from stablediffusiond.engine.pipeline_denoiser import PipelineDenoiser

    return PipelineDenoiser(pipeline, "tiny")
