"""Autoencoders in tiles: asked for, for large pictures, and where memory ends; the picture is nearly the same."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from stablediffusiond.engine import vae_tiling
from stablediffusiond.engine.job import Pixels
from stablediffusiond.engine.memory import most_pixels
from stablediffusiond.engine.models import load_pipeline
from stablediffusiond.engine.pipeline_denoiser import PipelineDenoiser
from stablediffusiond.engine.vae_tiling import tile
from stablediffusiond.messages.complete_request import CompleteRequest
from stablediffusiond.settings import ModelSettings, VaeTiling
from tests.engine.families import drawn_together, opened, save
from tests.engine.families.parts import vae

#: Latents in a row; a tile has 8, or 4 or 2 where memory ends.
_WIDE = 24


def qwen_vae() -> Any:
    made: Any = diffusers.AutoencoderKLQwenImage(
        base_dim=16, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True],
        latents_mean=[0.0] * 4, latents_std=[1.0] * 4,
    )  # fmt: skip
    made.enable_tiling(64, 64, 48, 48)
    made.disable_tiling()
    return made


def dc_vae() -> Any:
    made: Any = diffusers.AutoencoderDC(
        in_channels=3, latent_channels=4, attention_head_dim=2, encoder_block_types=("ResBlock",) * 4,
        decoder_block_types=("ResBlock",) * 4, encoder_block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8), encoder_qkv_multiscales=((), (), (), ()),
        decoder_qkv_multiscales=((), (), (), ()), encoder_layers_per_block=(1, 1, 1, 1),
        decoder_layers_per_block=[1, 1, 1, 1], downsample_block_type="pixel_unshuffle", upsample_block_type="interpolate",
        decoder_norm_types="rms_norm", decoder_act_fns="silu",
    )  # fmt: skip
    made.enable_tiling(64, 64, 48, 48)
    made.disable_tiling()
    return made


class Watched:
    """An autoencoder with random weights, in which no call has room for more than ``most`` latents."""

    def __init__(self, make: Callable[[], Any], mode: VaeTiling, most: int = 10**9) -> None:
        torch.manual_seed(0)
        self.module = make().eval()
        self.widths: list[int] = []
        inner = self.module.decoder.forward

        def forward(z: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            self.widths.append(z.shape[-1])
            if len(z) * z.shape[-1] * z.shape[-2] > most:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return inner(z, *args, **kwargs)

        self.module.decoder.forward = forward
        tile(SimpleNamespace(components={"vae": self.module}, vae_scale_factor=8), mode)

    @torch.inference_mode()
    def decode(self, side: int = _WIDE, rows: int = 1) -> torch.Tensor:
        torch.manual_seed(1)
        latents = torch.nn.functional.interpolate(torch.randn(rows, 4, 4, 4), (side, side), mode="bicubic")
        if isinstance(self.module, diffusers.AutoencoderKLQwenImage):
            latents = latents[:, :, None]
        self.widths.clear()
        decoded: torch.Tensor = self.module.decode(latents).sample
        return decoded


MAKES = pytest.mark.parametrize("make", [vae, qwen_vae, dc_vae], ids=["AutoencoderKL", "Qwen-Image", "DC"])


@MAKES
@pytest.mark.parametrize(("most", "widest"), [(8 * 8, 8), (4 * 4, 4)])
def test_where_memory_ends_the_tiles_become_smaller(make: Callable[[], Any], most: int, widest: int) -> None:
    whole, short = Watched(make, "auto").decode(), Watched(make, "auto", most)
    tiled = short.decode()
    assert short.widths[-1] <= widest < short.widths[0] == _WIDE
    assert tiled.shape == whole.shape
    assert tiled.isfinite().all()
    assert not torch.equal(tiled, whole)


def test_what_has_not_fitted_once_is_not_tried_again() -> None:
    short = Watched(vae, "auto", 4 * 4)
    first = short.decode()
    assert _WIDE in short.widths
    assert torch.equal(short.decode(), first)
    assert max(short.widths) <= 4
    short.decode(side=2)
    assert short.widths == [2]


@MAKES
def test_pictures_that_share_a_call_are_made_one_by_one_before_in_tiles(make: Callable[[], Any]) -> None:
    short = Watched(make, "auto", _WIDE * _WIDE)
    together = short.decode(rows=3)
    assert short.widths == [_WIDE] * 4
    assert torch.allclose(together, Watched(make, "auto").decode(rows=3), atol=1e-4)
    short.decode()
    assert short.widths == [_WIDE]  # one alone is not too large for it
    assert not short.module.use_slicing


def test_memory_that_is_too_small_for_the_smallest_tile_is_said() -> None:
    short = Watched(vae, "auto", 1)
    with pytest.raises(torch.OutOfMemoryError):
        short.decode()
    assert min(short.widths) == 2
    with pytest.raises(torch.OutOfMemoryError):
        Watched(vae, "off", 8 * 8).decode()


def test_another_error_is_not_taken_for_memory() -> None:
    watched = Watched(vae, "auto")
    with pytest.raises(RuntimeError, match="channels"):
        watched.module.decode(torch.zeros(1, 5, _WIDE, _WIDE))
    assert watched.widths == []


@pytest.mark.parametrize(
    ("mode", "large", "widest"), [("auto", 10**6, _WIDE), ("auto", 100, 8), ("on", 10**6, 8), ("off", 100, _WIDE)]
)
def test_large_pictures_are_made_in_tiles(
    mode: VaeTiling, large: int, widest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vae_tiling, "_WHOLE_PIXELS", large)
    watched = Watched(vae, mode)
    watched.decode()
    assert max(watched.widths) == widest
    watched.decode(side=4)
    assert watched.widths == [4]  # what fits into a tile is whole


def test_what_is_encoded_does_not_depend_on_what_was_decoded_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vae_tiling, "_WHOLE_PIXELS", 200 * 200)
    watched = Watched(vae, "auto")
    picture = torch.rand(1, 3, 128, 128)
    with torch.inference_mode():
        before = watched.module.encode(picture).latent_dist.mean
        watched.decode(side=32)
        assert max(watched.widths) == 8
        assert torch.equal(watched.module.encode(picture).latent_dist.mean, before)
        assert not watched.module.use_tiling


def doodle_drawn(size: int, most: int) -> Pixels:
    """By the built-in model, whose decoder has been trained, and has room for so many latents in a row."""
    pipeline = load_pipeline(ModelSettings(device="cpu"))
    decoder = pipeline.vae.decoder
    inner = decoder.forward

    def forward(z: torch.Tensor, *args: Any) -> Any:
        if z.shape[-1] > most:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return inner(z, *args)

    decoder.forward = forward
    request = CompleteRequest(prompt="a red cat", steps=8, seed=1, width=size, height=size)
    [pixels] = drawn_together(PipelineDenoiser(pipeline, "doodle"), [request])
    return pixels


@pytest.mark.parametrize(("size", "most"), [(128, 8), (192, 16)])
def test_a_picture_for_which_memory_ends_is_nearly_the_same(size: int, most: int) -> None:
    whole = doodle_drawn(size, 100).astype(int)
    error = np.abs(whole - doodle_drawn(size, most)).mean()
    assert 0 < error < 5
    assert np.abs(whole - np.roll(whole, 64, 1)).mean() > 2 * error  # tiles in others' places would be seen


class _Device:
    """100 bytes are free; a step takes as many as the work says."""

    def held_bytes(self) -> int:
        return 0

    def free_bytes(self) -> int:
        return 100

    def peak_bytes(self, work: Callable[[], object]) -> int:
        return int(str(work()))


@pytest.mark.parametrize(("tiled", "pixels"), [(False, 64 * 64), (True, 64 * 64 * 9)])
def test_the_largest_picture_is_found_without_a_decoder_that_takes_tiles(
    tiled: bool, pixels: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    denoiser = opened(save("Stable Diffusion 1", tmp_path))
    denoiser.decodes_in_tiles = tiled
    monkeypatch.setattr(denoiser._trials, "draw", lambda: 90)
    monkeypatch.setattr(denoiser._trials, "denoise", lambda: 10)
    monkeypatch.setattr(denoiser, "most_pixels_by", lambda pixels, work: most_pixels(_Device(), pixels, work))
    monkeypatch.setattr(denoiser._trials, "pixels", lambda: 64 * 64)
    assert denoiser.most_pixels() == pixels
