"""Pictures decoded at once: each is what it is alone, and none is another's fault."""

import numpy as np
import pytest
import torch

from stablediffusiond.engine.call import Call, make_together
from stablediffusiond.engine.capacity import warm_up
from stablediffusiond.engine.image_run import state_of
from stablediffusiond.engine.job import Sample, Task
from stablediffusiond.engine.pipeline_denoiser import PipelineDenoiser
from stablediffusiond.errors import DeviceBroken, ModelError, OutOfMemory
from stablediffusiond.messages.complete_request import CompleteRequest
from tests.engine.finishing import all_finished, finished

DECODING = "stablediffusiond.engine.decoding"


def stepped(denoiser: PipelineDenoiser, count: int = 3) -> list[Sample]:
    """Images that have only to be decoded."""
    requests = [CompleteRequest(prompt=f"a cat {seed}", steps=2, seed=seed) for seed in range(count)]
    samples = [Sample(Task(key, each), 0, denoiser.kind_of(each), 2) for key, each in enumerate(requests)]
    assert denoiser.begin(samples) == {}
    while not samples[0].finished:
        assert denoiser.step(samples, 16) == {}
    return samples


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The pictures of each call of the decoder."""
    made: list[int] = []

    def noted(given: list[Call], rows_at_once: int) -> list[object]:
        made.append(len(given))
        return make_together(given, rows_at_once)

    monkeypatch.setattr(f"{DECODING}.make_together", noted)
    return made


def test_pictures_decoded_at_once_are_those_decoded_alone(denoiser: PipelineDenoiser, calls: list[int]) -> None:
    alone = [finished(denoiser, sample) for sample in stepped(denoiser)]
    assert calls == [1, 1, 1]
    together = all_finished(denoiser, stepped(denoiser))
    assert calls == [1, 1, 1, 3]
    for expected, got in zip(alone, together, strict=True):
        assert np.abs(expected.astype(int) - got).max() <= 1
    assert not np.array_equal(alone[0], alone[1])


def test_latents_that_are_no_numbers_are_left_out(denoiser: PipelineDenoiser, calls: list[int]) -> None:
    samples = stepped(denoiser)
    call = state_of(samples[1]).run.call
    assert call is not None
    latents = call.tensor("z")
    assert latents is not None
    with torch.inference_mode():
        latents.fill_(torch.nan)
    first, second, third = denoiser.finish(samples)
    assert calls == [2]
    assert isinstance(second, ModelError)
    assert isinstance(first, np.ndarray)
    assert isinstance(third, np.ndarray)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("out of memory"), RuntimeError("something else")])
def test_what_cannot_be_decoded_at_once_is_decoded_one_by_one(
    denoiser: PipelineDenoiser, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    expected = all_finished(denoiser, stepped(denoiser))
    made: list[int] = []

    def only_one(given: list[Call], rows_at_once: int) -> list[object]:
        made.append(len(given))
        if len(given) > 1:
            raise error
        return make_together(given, rows_at_once)

    monkeypatch.setattr(f"{DECODING}.make_together", only_one)
    for picture, got in zip(expected, all_finished(denoiser, stepped(denoiser)), strict=True):
        assert np.abs(picture.astype(int) - got).max() <= 1
    assert made == [3, 1, 1, 1]


def test_each_that_fails_alone_says_so(denoiser: PipelineDenoiser, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(given: object, rows_at_once: int) -> list[object]:
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(f"{DECODING}.make_together", no_room)
    assert [type(each) for each in denoiser.finish(stepped(denoiser))] == [OutOfMemory] * 3


def test_a_broken_device_is_no_pictures_fault(denoiser: PipelineDenoiser, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(given: object, rows_at_once: int) -> list[object]:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(f"{DECODING}.make_together", broken)
    with pytest.raises(DeviceBroken):
        denoiser.finish(stepped(denoiser))


def test_how_many_at_once_is_measured_before_the_first_job(denoiser: PipelineDenoiser) -> None:
    capacity = warm_up(denoiser, None)
    assert denoiser.time_decodes(2) > 0
    assert capacity.decodes.images_at_most(capacity.own, None) >= 1
