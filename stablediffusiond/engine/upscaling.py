"""Enlarging a picture with a network, tile by tile: each tile is a step, between those of others.

What a tile sees at its edges that is not there would show in the picture, so tiles overlap, and of each only the middle
is kept, as Real-ESRGAN does it: https://github.com/xinntao/Real-ESRGAN
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from stablediffusiond.engine.job import Kind, Pixels, Task
from stablediffusiond.engine.parts import Part
from stablediffusiond.engine.upscaler_files import Upscaler
from stablediffusiond.errors import ModelError
from stablediffusiond.messages.request import Request

#: What is only about steps.
_OF_DENOISING: Final = (
    "prompt", "negative_prompt", "loras", "steps", "guidance_scale", "sampler", "strength", "subseed_strength",
    "tiling", "guidance_rescale", "clip_skip", "eta", "preview_every",
)  # fmt: skip
Size = tuple[int, int]  #: width and height in pixels

#: Pixels that a tile sees of its neighbours.
MARGIN: Final = 16
#: A network whose largest scale is too small is used again, but not for ever.
_MOST_PASSES: Final = 3


class Span(NamedTuple):
    """A part of a line of pixels: what a tile sees of it, and what of that is kept."""

    first: int
    end: int
    kept_first: int
    kept_end: int


def spans(length: int, tile: int, margin: int = MARGIN) -> list[Span]:
    """Parts of a line of ``length`` pixels, each of which sees ``tile`` pixels of it: what they keep is the line."""
    made: list[Span] = []
    kept = 0
    while kept < length:
        first = max(min(kept - margin, length - tile), 0)
        end = min(first + tile, length)
        kept_end = length if end == length else end - margin
        made.append(Span(first, end, kept, kept_end))
        kept = kept_end
    return made


class Upscaling:
    """A part of an image: ``upscaler`` enlarges a picture of ``size`` until it has at least the size ``wanted``."""

    def __init__(self, upscaler: Upscaler | None, size: Size, wanted: Size, longest_tile_seconds: float) -> None:
        if upscaler is None:
            raise ModelError("the upscaler was not read")
        self._upscaler = upscaler
        self._tile = upscaler.tile_pixels(longest_tile_seconds)
        self._passes = _passes(upscaler.scale, size, wanted)
        self.kind = Kind(self._tile, self._tile, f"upscaler {upscaler.name}")
        self.network: torch.nn.Module = upscaler.network
        self.steps_done = 0
        sizes = [_times(size, upscaler.scale**nth) for nth in range(self._passes)]
        self.steps = sum(len(spans(width, self._tile)) * len(spans(height, self._tile)) for width, height in sizes)

    def enlarge(self, picture: Tensor) -> Pixels:
        """``picture``, (3, H, W) from 0 to 1, larger: (H, W, 3) uint8 in host memory."""
        for nth in range(self._passes):
            made = self._once(picture)
            if nth < self._passes - 1:
                picture = torch.from_numpy(made).permute(2, 0, 1).float() / 255
        return made

    def _once(self, picture: Tensor) -> Pixels:
        scale, (height, width) = self._upscaler.scale, picture.shape[-2:]
        made = np.empty((height * scale, width * scale, 3), np.uint8)
        for across, down in self._tiles(width, height):
            seen = picture[None, :, down.first : down.end, across.first : across.end]
            larger = self._upscaler(seen.to(self._upscaler.device))[0].permute(1, 2, 0)
            rows = slice((down.kept_first - down.first) * scale, (down.kept_end - down.first) * scale)
            columns = slice((across.kept_first - across.first) * scale, (across.kept_end - across.first) * scale)
            pixels = (larger[rows, columns].float() * 255).round().to(torch.uint8).cpu().numpy()
            made[
                down.kept_first * scale : down.kept_end * scale, across.kept_first * scale : across.kept_end * scale
            ] = pixels
            self.steps_done += 1
        return made

    def _tiles(self, width: int, height: int) -> Iterator[tuple[Span, Span]]:
        return ((across, down) for down in spans(height, self._tile) for across in spans(width, self._tile))


def of_task(
    task: Task, upscaler: Upscaler | None, longest_tile_seconds: float
) -> tuple[Callable[[Callable[[], None]], Any], Sequence[Part]]:
    """What enlarges the image of ``task``, which is enlarged already where no network does it; and in which parts."""
    image = task.init_image
    if image is None:
        raise ModelError("there is no image to be enlarged")
    if upscaler is None:
        return lambda _: np.asarray(image), []
    picture = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
    wanted = task.request.width or 0, task.request.height or 0
    part = Upscaling(upscaler, image.size, wanted, longest_tile_seconds)
    return lambda _: part.enlarge(picture), [part]


def unused_by_upscales(request: Request) -> list[str]:
    """Warnings about what ``request`` asks for and no upscale has a use for."""
    unused = [name for name in _OF_DENOISING if name in request.model_fields_set and getattr(request, name)]
    return [f"an upscale has no use for {name!r}" for name in unused]


def _passes(scale: int, size: Size, wanted: Size) -> int:
    if scale == 1:
        return 1
    factor = max(wanted[0] / size[0], wanted[1] / size[1], 1)
    return min(max(math.ceil(math.log(factor) / math.log(scale) - 1e-9), 1), _MOST_PASSES)


def _times(size: Size, by: int) -> Size:
    return size[0] * by, size[1] * by
