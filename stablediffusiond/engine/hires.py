"""A picture in two passes, the second at a larger size: A1111's hires fix.

The first pass is enlarged either as latents or as pixels. A pipeline keeps its latents in a layout of its own, packed
or scaled; what it gives to the autoencoder is the same for all pipelines of that autoencoder. So latents are taken
where the first pass would have them decoded, and given to the second one where it would have a picture encoded.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from greenlet import getcurrent
from PIL import Image, ImageOps
from torch import Tensor

from stablediffusiond.engine.coalescing import PipelineRun
from stablediffusiond.engine.job import Kind, Sample, Task
from stablediffusiond.engine.parts import Part
from stablediffusiond.engine.passes import Pass, make_pass
from stablediffusiond.engine.pipelines import ModelPipelines
from stablediffusiond.engine.request_files import files_of
from stablediffusiond.engine.upscaling import Upscaling
from stablediffusiond.messages.hires import Hires
from stablediffusiond.upscalers import BUILT_IN, OfLatents, OfPixels


class _Denoised(Exception):
    """The first pass has come to its end."""

    def __init__(self, latents: Tensor) -> None:
        super().__init__()
        self.latents = latents


@dataclass(frozen=True)
class _Encoded:
    """What autoencoders of diffusers answer, whose latents pipelines take in one of these ways."""

    latents: Tensor

    @property
    def latent(self) -> Tensor:
        return self.latents

    @property
    def latent_dist(self) -> "_Encoded":
        return self

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """No noise is drawn, as where a pipeline is given latents."""
        del generator
        return self.latents

    def mode(self) -> Tensor:
        return self.latents


def two_passes(
    first: Pass, sample: Sample, hires: Hires, pipelines: ModelPipelines, longest_tile_seconds: float
) -> tuple[Callable[[Callable[[], None]], Any], Sequence[Part]]:
    """What draws ``sample``, whose first pass is ``first``, and the parts in which it does.

    The noise of the second pass comes from the same seed, so that the picture is the one that img2img would make of it.

    Raises:
        InvalidRequest: the sampler is not for this model.
    """
    files = files_of(sample.task)
    width, height = sample.task.request.second_size or first.part.kind.sides
    kind = replace(first.part.kind, width=width, height=height)
    task, steps = _second_task(sample.task, hires, kind)
    generator = torch.Generator("cpu").manual_seed(sample.task.request.image_seed(sample.index))
    second = make_pass(pipelines, task, kind, generator, expected_steps=steps)
    built_in = BUILT_IN.get(hires.upscaler)
    if isinstance(built_in, OfLatents):
        return _enlarging_latents(first, second, built_in), [first.part, second.part]
    if isinstance(built_in, OfPixels):
        return _enlarging_pixels(first, second, built_in), [first.part, second.part]
    enlarging = Upscaling(files.upscaler, first.part.kind.sides, kind.sides, longest_tile_seconds)
    return _upscaling(first, second, enlarging), [first.part, enlarging, second.part]


def _second_task(task: Task, hires: Hires, kind: Kind) -> tuple[Task, int]:
    """And the steps that it will make."""
    steps = hires.steps or task.request.steps
    asked = {
        "type": "img2img", "hires": None, "second_size": None, "width": kind.width, "height": kind.height,
        "steps": steps,
        "strength": hires.strength,
        "sampler": hires.sampler or task.request.sampler,
        "guidance_scale": task.request.guidance_scale if hires.guidance_scale is None else hires.guidance_scale,
    }  # fmt: skip
    second = replace(
        task,
        request=task.request.model_copy(update=asked),
        init_image=Image.new("RGB", kind.sides),
        controls=[control.resize(kind.sides, Image.Resampling.LANCZOS) for control in task.controls],
    )
    return second, max(int(steps * hires.strength), 1)


def _enlarging_latents(first: Pass, second: Pass, method: OfLatents) -> Callable[[Callable[[], None]], Any]:
    def draw(go_on: Callable[[], None]) -> Any:
        here = getcurrent()
        if not isinstance(here, PipelineRun):
            raise TypeError("only a run can be stopped before its picture is decoded")
        here.in_place_of["decode"] = _stop
        try:
            first.images()
        except _Denoised as reached:
            larger = enlarged(reached.latents, first.part.kind, second.part.kind, method)
        del here.in_place_of["decode"]
        here.in_place_of["encode"] = lambda **_: _Encoded(larger)
        go_on()
        return second.images()

    return draw


def _enlarging_pixels(first: Pass, second: Pass, method: OfPixels) -> Callable[[Callable[[], None]], Any]:
    def draw(go_on: Callable[[], None]) -> Any:
        picture = _as_picture(first.images()[0])
        go_on()
        return second.images(image=_fitting(picture, second.part.kind, method))

    return draw


def _upscaling(first: Pass, second: Pass, enlarging: Upscaling) -> Callable[[Callable[[], None]], Any]:
    def draw(go_on: Callable[[], None]) -> Any:
        picture = first.images()[0]
        go_on()
        larger = Image.fromarray(enlarging.enlarge(picture))
        go_on()
        return second.images(image=_fitting(larger, second.part.kind, OfPixels("LANCZOS")))

    return draw


def _stop(**arguments: Any) -> Any:
    raise _Denoised(next(each for each in arguments.values() if isinstance(each, Tensor)))


def enlarged(latents: Tensor, first: Kind, second: Kind, method: OfLatents) -> Tensor:
    """``latents``, (…, h, w), of a picture of the size of ``first``, filling one of ``second``: their middle, at most.

    They are those of the autoencoder, whose places lie as the picture's do.
    """
    height, width = latents.shape[-2:]
    rows, columns = round(second.height * height / first.height), round(second.width * width / first.width)
    scale = max(rows / height, columns / width)
    size = max(round(height * scale), rows), max(round(width * scale), columns)
    flat = latents.reshape(1, -1, height, width).float()
    made = torch.nn.functional.interpolate(flat, size, mode=method.mode, antialias=method.antialias)
    top, left = (size[0] - rows) // 2, (size[1] - columns) // 2
    return made[..., top : top + rows, left : left + columns].reshape(*latents.shape[:-2], rows, columns)


def _as_picture(image: Tensor) -> Image.Image:
    """``image`` is (3, H, W) from 0 to 1."""
    return Image.fromarray((image.permute(1, 2, 0).float() * 255).round().clamp(0, 255).to(torch.uint8).cpu().numpy())


def _fitting(picture: Image.Image, kind: Kind, method: OfPixels) -> Image.Image:
    """``picture`` filling the size of ``kind``; its middle, where the proportions are others."""
    return ImageOps.fit(picture, kind.sides, Image.Resampling[method.resampling])
