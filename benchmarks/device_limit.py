"""What the device can do at its best: so many full calls of the network and so many decodes, and nothing else.

In a process of its own, with the daemon's way of keeping memory, which nothing else in a benchmark should have.
"""

import contextlib
import math
import multiprocessing
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import torch

from stablediffusiond.engine.call import make_together
from stablediffusiond.engine.capacity import best_rows, measure
from stablediffusiond.engine.image_run import state_of
from stablediffusiond.engine.job import Sample, Task
from stablediffusiond.engine.malloc import have_one_heap
from stablediffusiond.engine.models import load
from stablediffusiond.engine.pipeline_denoiser import PipelineDenoiser
from stablediffusiond.messages.complete_request import CompleteRequest
from stablediffusiond.settings import ModelSettings

_opened: list[PipelineDenoiser] = []


@contextlib.contextmanager
def device_limit(model: str) -> Iterator[Callable[[list[dict[str, Any]]], float]]:
    """A function that gives the seconds of the steps and pictures of jobs under guidance, as the device makes them."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _open, (model,)) as process:
        yield lambda jobs: process.submit(_seconds, sum(fields["steps"] for fields in jobs), len(jobs)).result()


def _open(model: str) -> None:
    have_one_heap()
    _opened.append(load(ModelSettings(name=model)))


def _seconds(steps: int, pictures: int) -> float:
    [denoiser] = _opened
    images = max(1, best_rows(measure(denoiser.time_rows)) // 2)
    request = CompleteRequest(prompt="a red cat")
    samples = [Sample(Task(key, request), 0, denoiser.kind_of(request), 2) for key in range(images)]
    denoiser.begin(samples)
    calls = [call for sample in samples if (call := state_of(sample).run.call) is not None]
    began = time.perf_counter()
    with torch.inference_mode():
        for _ in range(math.ceil(steps / images)):
            make_together(calls, 2 * images)
    taken = (time.perf_counter() - began) * (steps / images) / math.ceil(steps / images)
    for sample in samples:
        denoiser.drop(sample)
    return taken + pictures * denoiser.time_decodes(1)
