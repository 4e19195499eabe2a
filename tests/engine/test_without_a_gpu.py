"""What matters on a GPU alone, as far as it can be seen without one: ``meta`` tensors are on another device, too."""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline

from stablediffusiond.engine import models
from stablediffusiond.engine.coalescing import PipelineRun, answer, hold
from tests.engine.families import save


class Network(torch.nn.Module):
    """Notes where its arguments are."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1, device="meta"))
        self.dtype = torch.float32
        self.devices: dict[str, str] = {}

    def forward(self, sample: torch.Tensor, timestep: Any, added: Any = None) -> torch.Tensor:
        self.devices = {"sample": sample.device.type, "timestep": timestep.device.type}
        return sample


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("timestep", [torch.tensor(7), torch.tensor([7]), 7, 7.5])
def test_timesteps_of_schedulers_come_to_the_device_with_the_call(timestep: Any, dtype: torch.dtype) -> None:
    """They are kept in host memory, so that nobody waits for the device to look one up."""
    network = Network().to(dtype)
    network.dtype = dtype
    hold(network)
    runs = [PipelineRun(lambda: network(torch.zeros(1, 4, device="meta"), timestep)) for _ in range(2)]
    for run in runs:
        run.start()
    answer(runs, 2)
    assert network.devices == {"sample": "meta", "timestep": "meta"}
    assert all(run.result.shape == (1, 4) for run in runs)


def test_layouts_for_a_gpus_convolutions_are_given_to_what_has_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not to the convolutions over time that Qwen-Image's autoencoder has beside them."""
    pipeline = DiffusionPipeline.from_pretrained(save("Qwen-Image", tmp_path))
    monkeypatch.setattr(models, "device_of", lambda _: torch.device("cuda"))
    models.at_its_fastest(pipeline)
    convolutions = [each for each in pipeline.vae.modules() if isinstance(each, torch.nn.Conv2d)]
    assert any(each.weight.is_contiguous(memory_format=torch.channels_last) for each in convolutions)
    assert any(isinstance(each, torch.nn.Conv3d) for each in pipeline.vae.modules())
