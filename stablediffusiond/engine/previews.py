"""What an image looks like before it is finished, by a linear map from its latents: far cheaper than a decoder."""

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor

from stablediffusiond.engine.job import Pixels

#: For Stable Diffusion 1.x and 2.x, red, green and blue of each channel.
#: Source: https://discuss.huggingface.co/t/decoding-latents-to-rgb-without-upscaling/23204
_STABLE_DIFFUSION: Final = (
    (0.298, 0.207, 0.208), (0.187, 0.286, 0.173), (-0.158, 0.189, 0.264), (-0.184, -0.271, -0.473)
)  # fmt: skip
_SIDE: Final = 64


class Previewer:
    """Latents to colours, each latent one pixel: ``factors`` is (channels + 1, 3), the last row is added to all."""

    def __init__(self, factors: Tensor) -> None:
        self._factors = factors.float().cpu()

    @classmethod
    def for_model(cls, channels: int, encode: Callable[[Tensor], Tensor]) -> "Previewer":
        """Stable Diffusion's known map where the channels are as many; else one that fits what ``encode`` says.

        ``encode`` takes pictures (n, 3, H, W) from -1 to 1 to latents as the UNet sees them.
        """
        if channels == len(_STABLE_DIFFUSION):
            return cls(torch.tensor((*_STABLE_DIFFUSION, (0.0, 0.0, 0.0))))
        return cls(_fit(encode))

    def show(self, latents: Tensor) -> Pixels:
        """(1, channels, H/8, W/8) to (H/8, W/8, 3) uint8, in host memory."""
        each = latents[0].float().cpu().permute(1, 2, 0)
        colours = each @ self._factors[:-1] + self._factors[-1]
        pixels: Pixels = ((colours / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8).numpy()
        return pixels


def _fit(encode: Callable[[Tensor], Tensor]) -> Tensor:
    """The map that takes the latents of plain pictures to their colours, by least squares."""
    levels = torch.linspace(-1, 1, 4)
    colours = torch.cartesian_prod(levels, levels, levels)  # (64, 3)
    latents = encode(colours[:, :, None, None].expand(-1, -1, _SIDE, _SIDE)).float().cpu()
    inner = latents[:, :, 2:-2, 2:-2].mean(dim=(2, 3))  # at its edges a picture is not plain
    known = torch.cat([inner, torch.ones(len(inner), 1)], dim=1)
    factors: Tensor = torch.linalg.lstsq(known, colours).solution
    return factors
