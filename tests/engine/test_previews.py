"""Previews: the map from latents to colours, and when the engine makes one."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers.configuration_utils import FrozenDict

from stablediffusiond.engine.job import Event, Finished, Kind, Pixels, Previewed, Sample, Task
from stablediffusiond.engine.pipeline_denoiser import PipelineDenoiser
from stablediffusiond.engine.previews import Previewer, examples
from stablediffusiond.messages.complete_request import CompleteRequest
from stablediffusiond.pictures.encoding import encode_preview
from tests.engine.test_engine import Running, task

KIND = Kind(96, 64)


@pytest.mark.parametrize("layout", [(1, 8, 8, 12), (1, 8, 1, 8, 12), (1, 96, 8)], ids=["plain", "frames", "patches"])
def test_the_map_is_learnt_from_what_the_decoder_makes_of_latents(layout: tuple[int, ...]) -> None:
    """Whose colours are here some mixture of the channels, in pictures of 8 pixels a latent."""
    mixture = np.random.default_rng(0).normal(size=(8, 3)) * 0.1

    def decode(latents: torch.Tensor) -> Pixels:
        channels_last = latents.ndim == 3
        values = latents.reshape(8, 12, 8) if channels_last else latents.reshape(8, 8, 12).permute(1, 2, 0)
        colours = values.numpy() @ mixture + 0.1
        pixels: Pixels = np.rint((colours / 2 + 0.5).clip(0, 1) * 255).astype(np.uint8).repeat(8, 0).repeat(8, 1)
        return pixels

    previewer = Previewer()
    assert not previewer.has_map
    known = examples(torch.zeros(layout), KIND)
    previewer.fit(known, decode(known), KIND)
    unseen = torch.randn(layout, generator=torch.Generator().manual_seed(1))
    assert np.abs(previewer.show(unseen, KIND).astype(int) - decode(unseen)[::8, ::8]).max() <= 3


def test_the_autoencoder_of_stable_diffusion_has_a_known_map() -> None:
    config = FrozenDict(latent_channels=4, scaling_factor=0.18215)
    previewer = Previewer.for_model(SimpleNamespace(vae=SimpleNamespace(config=config)))
    assert (previewer.show(torch.zeros(1, 4, 2, 2), Kind(16, 16)) == 128).all()
    other = FrozenDict(latent_channels=4, scaling_factor=0.13025)  # of Stable Diffusion XL
    assert not Previewer.for_model(SimpleNamespace(vae=SimpleNamespace(config=other))).has_map


def test_a_preview_shows_the_latents_of_a_sample(denoiser: PipelineDenoiser) -> None:
    sample = Sample(Task(1, CompleteRequest(prompt="x", steps=3, seed=1)), 0, Kind(64, 48), 2)
    assert denoiser.begin([sample]) == {}
    assert denoiser.step([sample], 2) == {}
    assert denoiser.preview(sample).shape == (6, 8, 3)


def test_a_preview_is_a_small_jpeg() -> None:
    assert encode_preview(np.zeros((16, 24, 3), np.uint8)).startswith(b"\xff\xd8\xff")


def previews(events: list[Event]) -> list[tuple[int, int]]:
    return [(event.facts.index, event.facts.step) for event in events if isinstance(event, Previewed)]


def test_none_are_made_if_nobody_asks() -> None:
    ticks = iter(range(10_000))
    running = Running(clock=lambda: float(next(ticks)))
    running.thread.start()
    running.engine.submit(task(1, steps=20))
    assert isinstance(running.until_end(1)[1][-1], Finished)
    assert not [call for call in running.device.order if call.startswith("preview")]
    running.close()


def test_a_request_says_after_how_many_steps() -> None:
    running = Running()
    running.thread.start()
    running.engine.submit(task(1, steps=7, count=2, preview_every=3))
    assert previews(running.until_end(1)[1]) == [(0, 3), (1, 3), (0, 6), (1, 6)]
    running.close()


def test_a_listener_sees_one_with_each_progress() -> None:
    ticks = iter(range(10_000))
    running = Running(clock=lambda: next(ticks) * 0.2)
    running.engine.pause("until somebody listens")
    running.thread.start()
    running.engine.submit(task(1, steps=20))
    running.engine.show_previews(1)
    running.engine.resume()
    events = running.until_end(1)[1]
    assert 2 <= len(previews(events)) <= 19
    running.close()
