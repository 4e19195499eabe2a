"""The UNet call: rows of many images at once, eager or compiled, in parts where memory is short."""

import logging
import time
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from stablediffusiond.engine.models import Pipeline, own_latent_size
from stablediffusiond.settings import CompileMode

log = logging.getLogger(__name__)

#: What ``[engine] compile`` means to torch.compile.
_MODES: Final = {"default": "default", "max": "max-autotune"}
#: Calls timed for one row count; the fastest tells what the device can do, the others what else the machine was doing.
_TIMED_CALLS: Final = 5
#: After so long there are no more of them: a service shall start.
_ENOUGH_SECONDS: Final = 0.3


@dataclass(frozen=True)
class Rows:
    """What goes into a UNet call; the first dimension of each tensor is the rows."""

    latents: Tensor  #: (rows, channels, H/8, W/8)
    timesteps: Tensor  #: (rows,) float32
    embeddings: Tensor  #: (rows, tokens, width)
    conditions: Tensor | None = None  #: (rows, time_cond_proj_dim), for UNets distilled to a guidance scale

    def __len__(self) -> int:
        return len(self.latents)

    def part(self, first: int, end: int) -> "Rows":
        conditions = None if self.conditions is None else self.conditions[first:end]
        return Rows(self.latents[first:end], self.timesteps[first:end], self.embeddings[first:end], conditions)

    def filled_up(self, rows: int) -> "Rows":
        """With the last row repeated until there are ``rows``."""
        index = torch.arange(rows, device=self.latents.device).clamp_(max=len(self) - 1)
        conditions = None if self.conditions is None else self.conditions[index]
        return Rows(self.latents[index], self.timesteps[index], self.embeddings[index], conditions)


class Forward:
    """Calls the UNet of ``pipeline``.

    Compiled, it is compiled for a few row counts of the model's own size only, all of them while it warms up: a batch
    is filled up to the next of them, and anything else runs eagerly, since a recompilation would stop the traffic.
    """

    def __init__(self, pipeline: Pipeline, compile_mode: CompileMode = "off") -> None:
        self._unet = pipeline.unet
        self._own_latents = torch.Size((pipeline.unet.config.in_channels, *own_latent_size(pipeline)))
        self._embedding = (pipeline.tokenizer.model_max_length, pipeline.unet.config.cross_attention_dim)
        self._compiled = (
            None if compile_mode == "off" else torch.compile(self._unet, mode=_MODES[compile_mode], dynamic=False)
        )
        self._buckets: list[int] = []

    def __call__(self, rows: Rows, rows_at_once: int) -> Tensor:
        """What the UNet says of every row, (rows, channels, H/8, W/8); in several calls if there are more than fit."""
        if len(rows) <= rows_at_once:
            return self._call(rows)
        parts = [rows.part(first, first + rows_at_once) for first in range(0, len(rows), rows_at_once)]
        return torch.cat([self._call(part) for part in parts])

    def seconds(self, rows: int) -> float:
        """The time of a call with so many rows of the model's own size; compiles for that number first, if asked to."""
        if self._compiled is not None and rows not in self._buckets:
            began = time.monotonic()
            self._buckets.append(rows)
            self._call(self._some_rows(rows))
            log.info("compiled the UNet for %d rows in %.1f s", rows, time.monotonic() - began)
        given = self._some_rows(rows)
        taken = [self._timed(given)]
        while len(taken) < _TIMED_CALLS and sum(taken) < _ENOUGH_SECONDS:
            taken.append(self._timed(given))
        return min(taken)

    def _call(self, rows: Rows) -> Tensor:
        bucket = next((each for each in self._buckets if each >= len(rows)), None)
        if self._compiled is None or bucket is None or rows.latents.shape[1:] != self._own_latents:
            return self._run(self._unet, rows)
        # CUDA graphs reuse the memory of their results: take ours out of it.
        return self._run(self._compiled, rows.filled_up(bucket))[: len(rows)].clone()

    def _run(self, unet: Pipeline, rows: Rows) -> Tensor:
        predicted: Tensor = unet(
            rows.latents,
            rows.timesteps,
            encoder_hidden_states=rows.embeddings,
            timestep_cond=rows.conditions,
            return_dict=False,
        )[0]
        return predicted

    def _timed(self, rows: Rows) -> float:
        self._synchronize()
        began = time.perf_counter()
        self._call(rows)
        self._synchronize()
        return time.perf_counter() - began

    def _synchronize(self) -> None:
        if self._unet.device.type == "cuda":
            torch.cuda.synchronize(self._unet.device)

    def _some_rows(self, rows: int) -> Rows:
        device, dtype = self._unet.device, self._unet.dtype
        condition = self._unet.config.time_cond_proj_dim
        return Rows(
            torch.randn(rows, *self._own_latents, device=device, dtype=dtype),
            torch.full((rows,), 500.0, device=device),
            torch.randn(rows, *self._embedding, device=device, dtype=dtype),
            None if condition is None else torch.randn(rows, condition, device=device, dtype=dtype),
        )
