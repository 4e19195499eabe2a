"""Weights that leave the device and come back, and the models that wait in host memory meanwhile."""

from typing import Any

import numpy as np
import pytest
import torch

from stablediffusiond.engine.capacity import Capacity
from stablediffusiond.engine.host_weights import HostWeights
from stablediffusiond.engine.job import Kind, Pixels, Sample, Task
from stablediffusiond.engine.loaded_model import LoadedModel
from stablediffusiond.engine.networks import modules_of
from stablediffusiond.engine.pipeline_denoiser import PipelineDenoiser
from stablediffusiond.errors import OutOfMemory
from stablediffusiond.messages.complete_request import CompleteRequest
from stablediffusiond.requestd.host_models import HostModels, most_bytes
from stablediffusiond.settings import ResidencySettings
from tests.engine.fake import FakeDenoiser
from tests.engine.tiny_models import tiny_pipeline

DEVICE = torch.device("cpu")


@pytest.fixture(scope="module")
def own_pipeline(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What is done to this one, no other test sees."""
    return tiny_pipeline(tmp_path_factory.mktemp("tokenizer"))


def drawn(denoiser: PipelineDenoiser) -> Pixels:
    fields = {"id": "job", "prompt": "a red cat", "seed": 1, "steps": 2, "width": 64, "height": 64}
    request = CompleteRequest.model_validate(fields)
    sample = Sample(Task(1, request), 0, denoiser.kind_of(request), denoiser.rows_of(request))
    assert not denoiser.begin([sample])
    while not sample.finished:
        assert not denoiser.step([sample], 16)
    [picture] = denoiser.finish([sample])
    assert isinstance(picture, np.ndarray)
    return picture


def places(pipeline: Any) -> list[int]:
    return [tensor.data_ptr() for module in modules_of(pipeline) for tensor in module.parameters()]


def test_a_model_that_was_away_draws_the_same_picture(own_pipeline: Any) -> None:
    denoiser = PipelineDenoiser(own_pipeline, "tiny")
    before, first = drawn(denoiser), places(own_pipeline)
    assert denoiser.can_leave
    denoiser.leave()
    on_host = places(own_pipeline)
    assert not set(first) & set(on_host), "nothing is left on the device"
    denoiser.come_back()
    assert not set(on_host) & set(places(own_pipeline))
    assert np.array_equal(drawn(denoiser), before)
    denoiser.leave()
    assert places(own_pipeline) == on_host, "the host's copy is still there, and nothing was copied"
    own_pipeline.unet.conv_in.weight.data = torch.zeros_like(own_pipeline.unet.conv_in.weight)  # the test sees weights
    assert not np.array_equal(drawn(denoiser), before)
    denoiser.come_back()
    assert np.array_equal(drawn(denoiser), before)


def test_shared_tensors_stay_shared_and_what_is_elsewhere_or_of_another_form_stays() -> None:
    network: Any = torch.nn.ModuleDict({"one": torch.nn.Linear(2, 2), "other": torch.nn.Linear(2, 2)})
    network["other"].weight = network["one"].weight
    weights = HostWeights([network], DEVICE)
    weights.leave()
    weights.come_back()
    assert network["one"].weight.data_ptr() == network["other"].weight.data_ptr()
    assert weights.can_leave
    network["one"].register_buffer("elsewhere", torch.zeros(1, device="meta"))
    assert not HostWeights([network], DEVICE).can_leave

    class Packed(torch.nn.Parameter):
        """As libraries have them for weights of four bits."""

    network["one"] = torch.nn.Linear(2, 2)
    network["one"].bias = Packed(torch.zeros(2))
    assert not HostWeights([network], DEVICE).can_leave


class Movable(FakeDenoiser):
    can_leave = True

    def __init__(self) -> None:
        super().__init__()
        self.moves: list[str] = []
        self.has_room = True

    def leave(self) -> None:
        if not self.has_room:
            raise MemoryError
        self.moves.append("left")

    def come_back(self) -> None:
        if not self.has_room:
            raise OutOfMemory("the device is full")
        self.moves.append("back")


def model(nbytes: int = 4) -> tuple[LoadedModel, Movable]:
    denoiser = Movable()
    return LoadedModel(denoiser, Capacity(Kind(64, 64), {1: 0.01}), nbytes), denoiser


def test_the_longest_unused_goes_first() -> None:
    host = HostModels(10)
    models = {name: model()[0] for name in "abc"}
    for name in "ab":
        host.keep(name, models[name])
    assert host.bring_back("a") is models["a"]
    host.keep("a", models["a"])
    host.keep("c", models["c"])
    assert host.nbytes == {"a": 4, "c": 4}
    assert host.bring_back("b") is None
    host.keep("large", model(11)[0])
    assert host.nbytes == {"a": 4, "c": 4}, "it has no room, and nothing made way for it"


def test_what_has_no_room_is_forgotten() -> None:
    host = HostModels(10)
    one, denoiser = model()
    denoiser.has_room = False
    host.keep("one", one)
    assert not host.nbytes
    denoiser.has_room = True
    host.keep("one", one)
    denoiser.has_room = False
    with pytest.raises(OutOfMemory):
        host.bring_back("one")
    assert host.bring_back("one") is None


def test_how_much_there_is_for_models() -> None:
    auto = ResidencySettings()
    assert most_bytes(auto, "cpu") == 0, "the device is the host"
    assert most_bytes(auto, "cuda:0 (NVIDIA H200)") > 1_000_000
    assert most_bytes(ResidencySettings(host_bytes=5), "cpu") == 5
