"""The last call of a picture: its latents to pixels, checked for numbers."""

import logging
from typing import Any

import torch
from torch import Tensor

from stablediffusiond.engine.call import Call, make_together
from stablediffusiond.engine.coalescing import PipelineRun
from stablediffusiond.engine.job import Pixels
from stablediffusiond.engine.networks import Pipeline, modules_of
from stablediffusiond.engine.rows import Answer, tensors_of
from stablediffusiond.errors import ModelError

log = logging.getLogger(__name__)


class Decoder:
    """Answers the calls of autoencoders."""

    def picture(self, run: PipelineRun) -> Pixels:
        """The picture of a ``run`` that has only to be decoded, (H, W, 3) uint8 in host memory.

        Raises:
            ModelError: as ``answer``.
            Exception: what its pipeline raises.
        """
        while run.call is not None:
            self.answer(run)
        if run.failure is not None:
            raise run.failure
        image: Tensor = run.result[0]  # (3, H, W) from 0 to 1
        picture: Pixels = (image.permute(1, 2, 0).float() * 255).round().to(torch.uint8).cpu().numpy()
        return picture

    def answer(self, run: PipelineRun) -> None:
        """Make the call that ``run`` is suspended at, and resume it.

        Raises:
            ModelError: the latents, or what is decoded from them also in float32, are not numbers.
            RuntimeError: whatever else torch raises; the run is as it was.
        """
        if run.call is None:
            return
        latents = run.call.tensor("z", "x", "h", "latents")
        if latents is not None and not torch.isfinite(latents).all():
            raise ModelError('the latents are not numbers any more; try another sampler, or dtype = "float32"')
        answer = _make(run.call)
        if not _is_finite(answer):
            answer = self._in_float32(run.call)
        run.resume(answer)

    def _in_float32(self, call: Call) -> Answer:
        """Once more, and from now on, in float32: in half precision this autoencoder overflows."""
        if call.module.dtype != torch.float32:
            log.warning("the VAE overflows in %s, and decodes in float32 from now on", call.module.dtype)
            call.module.to(torch.float32)
            answer = _make(call)
            if _is_finite(answer):
                return answer
        raise ModelError("what the VAE decodes is not numbers; the model may be broken")


def decode_as_asked(pipeline: Pipeline) -> None:
    """Keep an autoencoder in float32 that says that it overflows in float16, as that of Stable Diffusion XL.

    Its pipeline would turn it to float32 for each picture and back, while others are suspended in it.
    """
    for module in modules_of(pipeline):
        if module.dtype == torch.float16 and _asks_for_float32(module):
            module.to(torch.float32)


def _asks_for_float32(module: torch.nn.Module) -> bool:
    config: Any = getattr(module, "config", None)
    if not getattr(config, "force_upcast", False):
        return False
    return "force_upcast" not in config.get("_use_default_values", ())  # which every autoencoder of diffusers has


def _make(call: Call) -> Answer:
    return make_together([call], call.rows)[0]


def _is_finite(answer: Answer) -> bool:
    return all(bool(torch.isfinite(tensor).all()) for tensor in tensors_of(answer))
