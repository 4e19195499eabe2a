"""One bad job never hurts another, on a real (tiny) model: the others get the pictures that they would have got."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from stablediffusiond.engine.capacity import Capacity
from stablediffusiond.engine.engine import Engine
from stablediffusiond.engine.image_run import ImageRun, state_of
from stablediffusiond.engine.job import Drawn, Event, Failed, Kind, Pixels, Sample, Task
from stablediffusiond.engine.pipeline_denoiser import PipelineDenoiser
from stablediffusiond.errors import DeviceBroken, JobError
from stablediffusiond.messages.complete_request import CompleteRequest
from tests.engine.tiny_models import tiny_pipeline

Spoil = Callable[[ImageRun], None]


def run(denoiser: PipelineDenoiser, spoil: Spoil | None, key_to_spoil: int = 1) -> dict[int, Pixels | str]:
    """Three jobs in one batch; the picture or the error code of each."""
    ended: dict[int, Pixels | str] = {}

    def on_event(event: Event) -> None:
        if isinstance(event, Drawn):
            ended[event.task.key] = event.pixels
        if isinstance(event, Failed):
            ended[event.task.key] = event.error.code

    engine = Engine(denoiser, Capacity(Kind(64, 64), {8: 1.0}), progress_interval_seconds=1e9, on_event=on_event)
    for key in range(3):
        engine.submit(Task(key, CompleteRequest(prompt=f"a cat {key}", steps=5, seed=key, id=str(key))))
    engine._take_in()
    engine.step()
    if spoil is not None:
        [sample] = [each for each in engine._drawing._batcher.samples if each.task.key == key_to_spoil]
        spoil(state_of(sample))
    while len(ended) < 3:
        engine.step()
    return ended


def make_latents_nan(state: ImageRun) -> None:
    _change_latents(state, lambda latents: latents * float("nan"))


def make_one_latent_infinite(state: ImageRun) -> None:
    def change(latents: torch.Tensor) -> torch.Tensor:
        changed = latents.clone()
        changed[0, 0, 0, 0] = float("inf")
        return changed

    _change_latents(state, change)


def _change_latents(state: ImageRun, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    step = state.scheduler.scheduler.step
    state.scheduler.scheduler.step = lambda *args, **kwargs: (change(step(*args, **kwargs)[0]),)


def break_the_scheduler(state: ImageRun) -> None:
    def step(*_: object, **__: object) -> None:
        raise ValueError("index 7 is out of bounds")

    state.scheduler.scheduler.step = step


@pytest.mark.parametrize("spoil", [make_latents_nan, make_one_latent_infinite, break_the_scheduler])
def test_the_others_get_their_pictures(denoiser: PipelineDenoiser, spoil: Spoil) -> None:
    expected, got = run(denoiser, None), run(denoiser, spoil)
    assert got[1] == "model_error"
    for key in (0, 2):
        difference = np.abs(np.asarray(got[key]).astype(int) - np.asarray(expected[key]).astype(int))
        assert difference.max() <= (1 if spoil is break_the_scheduler else 0), key


def test_a_decoder_that_fails_for_one_fails_one(denoiser: PipelineDenoiser, monkeypatch: pytest.MonkeyPatch) -> None:
    decode = denoiser.finish

    def finish(samples: Sequence[Sample]) -> list[Pixels | JobError]:
        for sample in samples:
            run = state_of(sample).run
            if sample.task.key == 1 and run.call is not None:  # too few channels
                run.call = replace(run.call, arguments={**run.call.arguments, "z": torch.zeros(1, 2, 8, 8)})
        return decode(samples)

    expected = run(denoiser, None)
    monkeypatch.setattr(denoiser, "finish", finish)
    got = run(denoiser, None)
    assert got[1] == "model_error"
    assert all((np.asarray(got[key]) == np.asarray(expected[key])).all() for key in (0, 2))


@pytest.mark.parametrize(
    "said",
    [
        "CUDA error: an illegal memory access was encountered",
        "CUDA error: unspecified launch failure",
        "CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling cublasSgemm",
        "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED",
    ],
)
@pytest.mark.parametrize("where", ["denoiser", "decoder"])
def test_a_broken_device_is_no_jobs_fault(
    denoiser: PipelineDenoiser, monkeypatch: pytest.MonkeyPatch, said: str, where: str
) -> None:
    """It ends the daemon, whose jobs then go back to their queue, and answers nobody."""

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError(f"{said}\nCompile with TORCH_USE_CUDA_DSA to enable device-side assertions.")

    events: list[Event] = []
    engine = Engine(denoiser, Capacity(Kind(64, 64), {8: 1.0}), progress_interval_seconds=1e9, on_event=events.append)
    for key in range(2):
        engine.submit(Task(key, CompleteRequest(prompt="a cat", steps=2, seed=key, id=str(key))))
    engine._take_in()
    engine.step()
    module = denoiser._pipelines.base.unet.conv_in if where == "denoiser" else denoiser._pipelines.base.vae.decoder
    monkeypatch.setattr(module, "forward", broken)
    with pytest.raises(DeviceBroken, match="nvidia-smi"):
        for _ in range(3):
            engine.step()
    assert not any(isinstance(event, Failed) for event in events)


def test_what_the_decoder_makes_infinite_in_half_precision_is_decoded_again(tmp_path: Path) -> None:
    """No black picture with ``done``; and a decoder that does so in float32 as well is an error."""
    pipeline = tiny_pipeline(tmp_path)
    pipeline.vae.to(torch.bfloat16)
    denoiser = PipelineDenoiser(pipeline, "tiny")
    overflowing = {torch.bfloat16}

    def overflow(_: object, __: object, output: torch.Tensor) -> torch.Tensor:
        return output * float("inf") if output.dtype in overflowing else output

    pipeline.vae.decoder.register_forward_hook(overflow)
    drawn = run(denoiser, None)
    assert all(not isinstance(pixels, str) and pixels.std() > 1 for pixels in drawn.values())
    assert pipeline.vae.dtype == torch.float32
    overflowing.add(torch.float32)
    assert set(run(denoiser, None).values()) == {"model_error"}


@pytest.mark.parametrize("error", [ValueError(), ValueError("\n"), RuntimeError()], ids=repr)
def test_an_exception_that_says_nothing_is_named(
    denoiser: PipelineDenoiser, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error

    request = CompleteRequest(prompt=f"never encoded before: {error!r}", steps=2)
    monkeypatch.setattr(denoiser._pipelines.base.text_encoder, "forward", refuse)
    sample = Sample(Task(0, request), 0, denoiser.kind_of(request), 2)
    assert str(denoiser.begin([sample])[0]).startswith(type(error).__name__)
