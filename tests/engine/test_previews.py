"""Previews: the map from latents to colours, and when the engine makes one."""

from types import SimpleNamespace

import numpy as np
import torch
from diffusers.configuration_utils import FrozenDict

from stablediffusiond.engine.job import Event, Finished, Kind, Previewed, Sample, Task
from stablediffusiond.engine.pipeline_denoiser import PipelineDenoiser
from stablediffusiond.engine.previews import Previewer
from stablediffusiond.messages.request import Request
from stablediffusiond.pictures.encoding import encode_preview
from tests.engine.test_engine import Running, task


class Mixture:
    """An autoencoder with so many channels, each some mixture of the colours."""

    device = torch.device("cpu")

    def __init__(self, channels: int) -> None:
        self.config = FrozenDict(latent_channels=channels, scaling_factor=0.5, shift_factor=0.1)
        self._mixture = torch.randn(channels, 3, generator=torch.Generator().manual_seed(0))

    def encode(self, pictures: torch.Tensor) -> SimpleNamespace:
        small = torch.nn.functional.avg_pool2d(pictures, 8)
        return SimpleNamespace(latents=torch.einsum("lc,nchw->nlhw", self._mixture, small) + 0.3)


def test_the_map_is_fitted_to_the_models_own_encoder() -> None:
    colours = torch.tensor([0.5, -0.25, 1.0])
    picture = colours[None, :, None, None].expand(1, 3, 32, 48)
    vae = Mixture(8)
    shown = Previewer.for_model(SimpleNamespace(vae=vae)).colours((vae.encode(picture).latents[0] - 0.1) * 0.5)
    assert shown.shape == (4, 6, 3)
    assert np.abs(shown.astype(int) - [191, 96, 255]).max() <= 1


def test_four_channels_are_taken_for_stable_diffusions() -> None:
    shown = Previewer.for_model(SimpleNamespace(vae=Mixture(4))).colours(torch.zeros(4, 2, 2))
    assert (shown == 128).all()


def test_a_preview_shows_the_latents_of_a_sample(denoiser: PipelineDenoiser) -> None:
    sample = Sample(Task(1, Request(prompt="x", steps=3, seed=1)), 0, Kind(64, 48), 2)
    assert denoiser.begin([sample]) == {}
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
