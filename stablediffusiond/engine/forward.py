"""The denoiser's call, compiled for a few row counts where the settings ask for it, and timed.

Compiled are calls as the model's own pictures make them, for row counts that were chosen while it warmed up: a call is
filled up to the next of them, and any other runs eagerly, since a recompilation would stop the traffic.
"""

import contextlib
import logging
import time
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch

from stablediffusiond.engine.altered import altered
from stablediffusiond.engine.call import Call, describe, filled_up, make_together, repeated
from stablediffusiond.engine.compiled import Compiled
from stablediffusiond.engine.ip_adapters.by_rows import ImagePrompts
from stablediffusiond.engine.loras.by_rows import Adapters
from stablediffusiond.engine.rows import Answer, map_tensors
from stablediffusiond.engine.timing import seconds_of
from stablediffusiond.settings import CompileMode

log = logging.getLogger(__name__)


class Forward:
    """Calls ``module`` by its ``forward``."""

    def __init__(self, module: torch.nn.Module, device: torch.device, compile_mode: CompileMode = "off") -> None:
        """``device`` is where it computes."""
        self._module = module
        self._device = device
        self._eager: Callable[..., Answer] = module.forward
        self._compiled = None if compile_mode == "off" else Compiled(module, compile_mode)
        self._buckets: list[int] = []
        self._example: Call | None = None
        self._compiling = False
        self._compiled_key: Hashable = None

    def measure_by(self, call: Call) -> None:
        """``call`` is what the model's own pictures look like."""
        self._example = repeated(call, call.rows)

    @property
    def has_example(self) -> bool:
        """Whether there is a call to measure by."""
        return self._example is not None

    def __call__(
        self,
        *,
        adapters: Sequence[Adapters] = (),
        image_prompts: Sequence[ImagePrompts] = (),
        wraps_around: bool = False,
        **arguments: Any,
    ) -> Answer:
        """Make a call; where the network is altered for it, it runs eagerly."""
        if any(adapters) or any(image_prompts) or wraps_around:
            with altered(self._module, adapters, image_prompts, wraps_around=wraps_around), self._left_out():
                return self._eager(**arguments)
        if self._compiled is None:
            return self._eager(**arguments)
        call = describe(self._module, self, arguments)
        if self._compiling:
            self._compiled_key = call.key
            return self._compiled.compile(filled_up(call, call.rows))
        bucket = next((each for each in self._buckets if each >= call.rows), None)
        if bucket is None or call.key != self._compiled_key:
            with self._left_out():
                return self._eager(**arguments)
        answer = self._compiled(**filled_up(call, bucket))
        # CUDA graphs reuse the memory of their results: take ours out of it.
        return map_tensors(answer, lambda tensor: tensor[: call.rows].clone())

    def seconds(self, rows: int) -> float:
        """The time of a call with so many rows of the model's own size; compiles for that number first, if asked to."""
        if self._example is None:
            raise RuntimeError("no call was shown to measure by")
        call = repeated(self._example, rows)
        if self._compiled is not None and rows not in self._buckets:
            self._compile_for(call)
        return seconds_of(call, self._device)

    def _left_out(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext() if self._compiled is None else self._compiled.left_out()

    def _compile_for(self, call: Call) -> None:
        began = time.monotonic()
        self._compiling = True
        try:
            make_together([call], call.rows)
        finally:
            self._compiling = False
        self._buckets.append(call.rows)
        log.info("compiled the denoiser for %d rows in %.1f s", call.rows, time.monotonic() - began)
