"""One bad job never hurts another, on a real (tiny) model: the others get the pictures that they would have got."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from stablediffusiond.engine.capacity import Capacity
from stablediffusiond.engine.denoiser import StableDiffusionDenoiser, _State, _state
from stablediffusiond.engine.engine import Engine
from stablediffusiond.engine.job import Drawn, Event, Failed, Pixels, Sample, Shape, Task
from stablediffusiond.messages.request import Request

Spoil = Callable[[_State], None]


def run(denoiser: StableDiffusionDenoiser, spoil: Spoil | None, key_to_spoil: int = 1) -> dict[int, Pixels | str]:
    """Three jobs in one batch; the picture or the error code of each."""
    ended: dict[int, Pixels | str] = {}

    def on_event(event: Event) -> None:
        if isinstance(event, Drawn):
            ended[event.task.key] = event.pixels
        if isinstance(event, Failed):
            ended[event.task.key] = event.error.code

    engine = Engine(denoiser, Capacity(Shape(64, 64), {8: 1.0}), progress_interval_seconds=1e9, on_event=on_event)
    for key in range(3):
        engine.submit(Task(key, Request(prompt=f"a cat {key}", steps=5, seed=key, id=str(key))))
    engine._take_in()
    engine.step()
    if spoil is not None:
        [sample] = [each for each in engine._batcher.samples if each.task.key == key_to_spoil]
        spoil(_state(sample))
    while len(ended) < 3:
        engine.step()
    return ended


def make_latents_nan(state: _State) -> None:
    state.latents = state.latents * float("nan")


def make_one_latent_infinite(state: _State) -> None:
    state.latents = state.latents.clone()
    state.latents[0, 0, 0, 0] = float("inf")


def break_the_scheduler(state: _State) -> None:
    def step(*_: object, **__: object) -> None:
        raise ValueError("index 7 is out of bounds")

    state.scheduler.step = step
    state.affine = None


@pytest.mark.parametrize("spoil", [make_latents_nan, make_one_latent_infinite, break_the_scheduler])
def test_the_others_get_their_pictures(denoiser: StableDiffusionDenoiser, spoil: Spoil) -> None:
    expected, got = run(denoiser, None), run(denoiser, spoil)
    assert got[1] == "model_error"
    for key in (0, 2):
        difference = np.abs(np.asarray(got[key]).astype(int) - np.asarray(expected[key]).astype(int))
        assert difference.max() <= (1 if spoil is break_the_scheduler else 0), key


def test_a_decoder_that_fails_for_one_fails_one(
    denoiser: StableDiffusionDenoiser, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode: Any = denoiser.finish

    def finish(sample: Sample) -> Pixels:
        if sample.task.key == 1:
            _state(sample).latents = _state(sample).latents[:, :2]  # which no decoder takes
        pixels: Pixels = decode(sample)
        return pixels

    expected = run(denoiser, None)
    monkeypatch.setattr(denoiser, "finish", finish)
    got = run(denoiser, None)
    assert got[1] == "model_error"
    assert all((np.asarray(got[key]) == np.asarray(expected[key])).all() for key in (0, 2))
