"""What an image looks like before it is finished, by a linear map from its latents: far cheaper than a decoder."""

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from stablediffusiond.engine.job import Kind, Pixels
from stablediffusiond.engine.networks import Pipeline

Floats = NDArray[np.float32]

#: For Stable Diffusion 1.x and 2.x, red, green and blue of each channel.
#: Source: https://discuss.huggingface.co/t/decoding-latents-to-rgb-without-upscaling/23204
_STABLE_DIFFUSION: Final = (
    (0.298, 0.207, 0.208), (0.187, 0.286, 0.173), (-0.158, 0.189, 0.264), (-0.184, -0.271, -0.473)
)  # fmt: skip
#: The factor by which their latents are scaled; Stable Diffusion XL's mean other colours, and have another.
_SCALING_FACTOR: Final = 0.18215
#: So many latents in a row and in a column have about the same value, as in a picture.
_PATCH: Final = 4
_GRAIN: Final = 0.3
#: Keeps the map small in directions of which the examples say little.
_RIDGE: Final = 1e-3


class Previewer:
    """Latents to colours, each latent one pixel."""

    def __init__(self, factors: Floats | None = None) -> None:
        """``factors`` is (channels + 1, 3), the last row is added to all; None is a map that has still to be fitted."""
        self._factors = factors

    @classmethod
    def for_model(cls, pipeline: Pipeline) -> "Previewer":
        """Stable Diffusion's known map, if the model has its autoencoder; else one without a map."""
        config = pipeline.vae.config if getattr(pipeline, "vae", None) is not None else {}
        if config.get("scaling_factor") == _SCALING_FACTOR and config.get("latent_channels") == len(_STABLE_DIFFUSION):
            return cls(np.array((*_STABLE_DIFFUSION, (0.0, 0.0, 0.0)), np.float32))
        return cls()

    @property
    def has_map(self) -> bool:
        return self._factors is not None

    def fit(self, latents: Tensor, pixels: Pixels, kind: Kind) -> None:
        """Take the map that brings ``latents`` nearest to the picture that was decoded from them."""
        known = _by_place(latents, kind)
        height, width, channels = known.shape
        small = Image.fromarray(pixels).resize((width, height), Image.Resampling.BOX)
        colours = np.asarray(small, np.float32).reshape(-1, 3) / 127.5 - 1
        rows = np.concatenate([known.reshape(-1, channels), np.ones((height * width, 1), np.float32)], axis=1)
        squares = rows.T @ rows + _RIDGE * len(rows) * np.eye(channels + 1, dtype=np.float32)
        self._factors = np.linalg.solve(squares, rows.T @ colours)

    def show(self, latents: Tensor | None, kind: Kind) -> Pixels:
        """The ``latents`` of one image, in its pipeline's layout, as (height, width, 3) uint8 in host memory."""
        if latents is None or self._factors is None:
            return np.full((1, 1, 3), 128, np.uint8)
        colours = _by_place(latents, kind) @ self._factors[:-1] + self._factors[-1]
        pixels: Pixels = np.rint((colours / 2 + 0.5).clip(0, 1) * 255).astype(np.uint8)
        return pixels


def examples(like: Tensor, kind: Kind) -> Tensor:
    """Latents of a picture that has every colour somewhere, in the layout and on the device of ``like``."""
    height, width, channels = _by_place(like, kind).shape
    random = np.random.default_rng(0)
    coarse = random.standard_normal((-(-height // _PATCH), -(-width // _PATCH), channels), np.float32)
    smooth = coarse.repeat(_PATCH, axis=0).repeat(_PATCH, axis=1)[:height, :width]
    values = torch.from_numpy(smooth + _GRAIN * random.standard_normal(smooth.shape, np.float32))
    laid_out = values.reshape(like.shape) if like.ndim == 3 else values.permute(2, 0, 1).reshape(like.shape)
    return laid_out.to(like)


def _by_place(latents: Tensor, kind: Kind) -> Floats:
    """(1, channels, height, width), also with a frame, or (1, patches, channels), as (height, width, channels)."""
    values = latents[0].float().cpu()
    if values.ndim == 2:  # row after row
        width = max(round((len(values) * kind.width / kind.height) ** 0.5), 1)
        return values.reshape(-1, width, values.shape[1]).numpy()
    return values.reshape(values.shape[0], *values.shape[-2:]).permute(1, 2, 0).numpy()
