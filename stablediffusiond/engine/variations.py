"""Variations of a picture: its first noise moved towards that of another seed, as A1111's subseed does it.

On the arc between the two, since a mean of two noises is weaker than either. Source: Shoemake, Animating rotation with
quaternion curves, https://doi.org/10.1145/325165.325242
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from stablediffusiond.engine.networks import Pipeline


def vary(pipeline: Pipeline, generator: torch.Generator, subseed: int, strength: float) -> None:
    """Have one image's ``pipeline``, whose noise comes from ``generator``, begin between it and that of ``subseed``."""
    other = torch.Generator(generator.device).manual_seed(subseed)
    prepare = pipeline.prepare_latents

    @functools.wraps(prepare)
    def prepare_latents(*args: Any, **kwargs: Any) -> Any:
        with _Between(generator, other, strength):  # nothing is suspended in here
            return prepare(*args, **kwargs)

    pipeline.__dict__["prepare_latents"] = prepare_latents


class _Between(TorchFunctionMode):
    """Noise that is asked of ``first`` comes from between ``first`` and ``second``."""

    def __init__(self, first: torch.Generator, second: torch.Generator, strength: float) -> None:
        super().__init__()
        self._first = first
        self._second = second
        self._strength = strength

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        del types
        given = kwargs or {}
        if function is torch.randn and given.get("generator") is self._first:
            noise = function(*args, **given)
            return between(noise, function(*args, **{**given, "generator": self._second}), self._strength)
        return function(*args, **given)


def between(first: Tensor, second: Tensor, strength: float) -> Tensor:
    """0 is ``first``, 1 is ``second``; what lies between has their length, too."""
    cosine = torch.nn.functional.cosine_similarity(first.flatten(), second.flatten(), dim=0).clamp(-1, 1)
    angle = torch.acos(cosine)
    if torch.sin(angle) < 1e-6:  # the same noise
        return first
    return (torch.sin((1 - strength) * angle) * first + torch.sin(strength * angle) * second) / torch.sin(angle)
