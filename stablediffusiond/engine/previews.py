"""What an image looks like before it is finished, by a linear map from its latents: far cheaper than a decoder."""

from typing import Any, Final

import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_img2img import retrieve_latents
from torch import Tensor

from stablediffusiond.engine.call import Call
from stablediffusiond.engine.job import Kind, Pixels

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
    def for_model(cls, pipeline: Any) -> "Previewer":
        """Stable Diffusion's known map where the channels are as many; else one that fits the model's own encoder."""
        if pipeline.vae.config.latent_channels == len(_STABLE_DIFFUSION):
            return cls(torch.tensor((*_STABLE_DIFFUSION, (0.0, 0.0, 0.0))))
        return cls(_fit(pipeline.vae))

    def show(self, pipeline: Any, call: Call | None, kind: Kind) -> Pixels:
        """The latents that a pipeline is about to give to its denoiser, as (H/8, W/8, 3) uint8 in host memory."""
        latents = None if call is None else call.tensor("sample", "hidden_states", "x")
        if latents is None:
            raise ValueError("this image waits at no call of its denoiser")
        if latents.ndim == 3:  # packed in patches of two by two, as FLUX has them
            latents = pipeline._unpack_latents(  # noqa: SLF001 (the layout is known to nobody else)
                latents, kind.height, kind.width, pipeline.vae_scale_factor
            )
        return self.colours(latents[0, : len(self._factors) - 1])

    def colours(self, latents: Tensor) -> Pixels:
        """(channels, H/8, W/8) to (H/8, W/8, 3) uint8, in host memory."""
        each = latents.float().cpu().permute(1, 2, 0)
        colours = each @ self._factors[:-1] + self._factors[-1]
        pixels: Pixels = ((colours / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8).numpy()
        return pixels


def _encode(vae: Any, pictures: Tensor) -> Tensor:
    """(n, 3, H, W) from -1 to 1 to latents as the denoiser sees them."""
    latents: Tensor = retrieve_latents(vae.encode(pictures.to(vae.device)), sample_mode="argmax")
    shifted: Tensor = latents - (vae.config.get("shift_factor") or 0.0)
    scale: float = vae.config.scaling_factor
    return shifted * scale


@torch.inference_mode()
def _fit(vae: Any) -> Tensor:
    """The map that takes the latents of plain pictures to their colours, by least squares."""
    levels = torch.linspace(-1, 1, 4)
    colours = torch.cartesian_prod(levels, levels, levels)  # (64, 3)
    latents = _encode(vae, colours[:, :, None, None].expand(-1, -1, _SIDE, _SIDE)).float().cpu()
    inner = latents[:, :, 2:-2, 2:-2].mean(dim=(2, 3))  # at its edges a picture is not plain
    known = torch.cat([inner, torch.ones(len(inner), 1)], dim=1)
    factors: Tensor = torch.linalg.lstsq(known, colours).solution
    return factors
