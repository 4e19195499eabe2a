"""The last call of a picture: its latents to pixels, in tiles where memory is short, and checked for numbers."""

from collections.abc import Sequence
from typing import Final

import torch

from stablediffusiond.engine.coalescing import PipelineRun, answer
from stablediffusiond.errors import ModelError

#: Larger pictures are decoded in tiles.
_TILED_ABOVE_PIXELS: Final = 1536 * 1536


class Decoder:
    """Answers the calls of ``autoencoders``."""

    def __init__(self, autoencoders: Sequence[torch.nn.Module]) -> None:
        self._autoencoders = autoencoders

    def answer(self, run: PipelineRun, pixels: int) -> None:
        """Make the call that ``run`` is suspended at, for a picture of so many ``pixels``, and resume it.

        Raises:
            ModelError: the latents are not numbers.
            RuntimeError: whatever else torch raises; the run is as it was.
        """
        if run.call is None:
            return
        latents = run.call.tensor("z", "x", "h", "latents")
        if latents is not None and not torch.isfinite(latents).all():
            raise ModelError('the latents are not numbers any more; try another sampler, or dtype = "float32"')
        self._tile(tiled=pixels > _TILED_ABOVE_PIXELS)
        try:
            answer([run], run.call.rows)
        except torch.OutOfMemoryError:
            if latents is not None and latents.device.type == "cuda":
                torch.cuda.empty_cache()
            self._tile(tiled=True)
            answer([run], run.call.rows)

    def _tile(self, *, tiled: bool) -> None:
        """In overlapping tiles decoding takes less memory, and their edges may differ."""
        for module in self._autoencoders:
            if hasattr(module, "use_tiling"):
                module.use_tiling = tiled  # type: ignore[assignment]
