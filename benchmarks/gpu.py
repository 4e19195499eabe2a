"""What the engine makes of a GPU: models at full size with random weights, against diffusers' own pipeline.

    python benchmarks/gpu.py [--model sd15|sdxl|flux|tiny] [--pixels 512] [--steps 20 50] [--compile off regions]

It needs this package with its engine, and no download. It prints JSON. For each way to compile: the seconds that it
took; a call of the network by its rows (rows a second, share of the device's rate for large matrix products); images a
second of many at once in our engine, of one alone, and of diffusers' own pipeline, one at a time; the seconds of a
job that comes when another is halfway, which with one at a time are 1.5 times those of one alone. And the lines of code
that wait for the device in a step. ``tiny`` is for trying the script on a CPU.
"""

import argparse
import collections
import json
import logging
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.random_models import MODELS, random_pipeline
from stablediffusiond.engine.capacity import Capacity, measure
from stablediffusiond.engine.engine import Engine
from stablediffusiond.engine.job import Event, Failed, Finished, Sample, Stepped, Task
from stablediffusiond.engine.models import at_its_fastest
from stablediffusiond.engine.networks import denoiser_of
from stablediffusiond.engine.pipeline_denoiser import PipelineDenoiser
from stablediffusiond.messages.complete_request import CompleteRequest
from stablediffusiond.settings import CompileMode

#: What is compiled whole is told so.
_MODES: Final = {"default": "default", "max": "max-autotune"}


class Bench:
    """One model on one device."""

    def __init__(self, name: str, pixels: int | None, images: int) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.name, self.images = name, images
        self.pipeline = random_pipeline(name, self.device)
        at_its_fastest(self.pipeline)
        self.side = pixels or 8 * (denoiser_of(self.pipeline).config.get("sample_size") or 128)
        self.guidance = 1.0 if name == "flux" else 7.5
        self.peak = self._matmul_rate()

    def seconds(self, work: Callable[[], object], calls: int = 3) -> float:
        """The median time of ``work``, after one call that does not count."""
        taken = []
        for _ in range(calls + 1):
            self._synchronize()
            began = time.perf_counter()
            work()
            self._synchronize()
            taken.append(time.perf_counter() - began)
        return statistics.median(taken[1:])

    def _synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def _matmul_rate(self) -> float:
        """Operations a second of a large matrix product."""
        size = 8192 if self.device.type == "cuda" else 512
        dtype = denoiser_of(self.pipeline).dtype
        a, b = (torch.randn(size, size, device=self.device, dtype=dtype) for _ in range(2))
        return 2 * size**3 / self.seconds(lambda: a @ b, calls=9)

    def request(self, steps: int, seed: int = 0) -> CompleteRequest:
        return CompleteRequest(
            prompt="a red cat", steps=steps, seed=seed, width=self.side, height=self.side, guidance_scale=self.guidance
        )

    def denoiser(self, mode: CompileMode) -> PipelineDenoiser:
        """A new one around the same networks."""
        self._let_go()
        return PipelineDenoiser(self.pipeline, self.name, compile_mode=mode)

    def _let_go(self) -> list[tuple[torch.nn.Module, dict[str, Any]]]:
        """Take away what holds the networks, so that they are diffusers' own again; returns it."""
        modules = [each for each in self.pipeline.components.values() if isinstance(each, torch.nn.Module)]
        methods = ("forward", "encode", "decode")
        return [
            (module, {name: module.__dict__.pop(name) for name in methods if name in module.__dict__})
            for module in modules
        ]

    # diffusers' own

    def by_diffusers(self, steps: int, mode: CompileMode) -> float:
        """Seconds of an image, by the pipeline alone."""
        held = self._let_go()
        network = denoiser_of(self.pipeline)
        if mode in _MODES:
            network.forward = torch.compile(network.forward, mode=_MODES[mode], dynamic=False)
        taken = self.seconds(lambda: self._call_pipeline(steps))
        network.__dict__.pop("forward", None)
        for module, methods in held:
            module.__dict__.update(methods)
        return taken

    def _call_pipeline(self, steps: int) -> None:
        self.pipeline(
            "a red cat", num_inference_steps=steps, guidance_scale=self.guidance, width=self.side, height=self.side
        )


def table_of(bench: Bench, denoiser: PipelineDenoiser, rows: Sequence[int] | None) -> dict[int, dict[str, float]]:
    """By ``rows``: what a call does; by default as the engine measures it before its first job."""
    sample = Sample(Task(0, bench.request(2)), 0, denoiser.kind_of(bench.request(2)), 2)
    denoiser.begin([sample])
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        denoiser.step([sample], sample.rows)
    denoiser.drop(sample)
    operations = counter.get_total_flops() / sample.rows
    began = time.perf_counter()
    table = {each: denoiser.time_rows(each) for each in rows} if rows else measure(denoiser.time_rows)
    print("measured for", round(time.perf_counter() - began, 1), "s", file=sys.stderr)
    return {
        rows: {
            "milliseconds": round(1000 * seconds, 2),
            "rows_a_second": round(rows / seconds, 2),
            "share_of_matmul_rate": round(operations * rows / seconds / bench.peak, 3),
        }
        for rows, seconds in table.items()
    }


def draw(
    denoiser: PipelineDenoiser, capacity: Capacity, requests: list[CompleteRequest], *, late: bool = False
) -> float:
    """Have ``requests`` drawn; seconds, or those of the second, if it is ``late``: when the first is halfway."""
    began = time.perf_counter()
    waiting = requests[1:] if late else []
    left = len(requests)

    def on_event(event: Event) -> None:
        nonlocal left, began
        if isinstance(event, Failed):
            raise event.error
        if waiting and isinstance(event, Stepped) and event.step >= event.steps // 2:
            began = time.perf_counter()
            engine.submit(Task(1, waiting.pop()))
        if isinstance(event, Finished):
            left -= 1
            if not left:
                engine.stop()

    engine = Engine(denoiser, capacity, progress_interval_seconds=0, on_event=on_event)
    for key, request in enumerate(requests[:1] if late else requests):
        engine.submit(Task(key, request))
    engine.run()
    return time.perf_counter() - began


def images(
    bench: Bench, denoiser: PipelineDenoiser, capacity: Capacity, steps: int, mode: CompileMode
) -> dict[str, float]:
    """What whole images of so many ``steps`` take."""
    requests = [bench.request(steps, seed) for seed in range(bench.images)]
    alone = bench.seconds(lambda: draw(denoiser, capacity, requests[:1]))
    at_once = bench.seconds(lambda: draw(denoiser, capacity, requests), calls=1)
    late = statistics.median(draw(denoiser, capacity, requests[:2], late=True) for _ in range(3))
    by_diffusers = bench.by_diffusers(steps, mode)
    return {
        "images a second, all at once": round(bench.images / at_once, 4),
        "images a second, alone": round(1 / alone, 4),
        "images a second, diffusers": round(1 / by_diffusers, 4),
        "times diffusers, all at once": round(by_diffusers * bench.images / at_once, 3),
        "seconds alone": round(alone, 3),
        "seconds of a late job": round(late, 3),
        "seconds of a late job, one at a time": round(1.5 * by_diffusers, 3),
    }


def waits(bench: Bench, denoiser: PipelineDenoiser) -> dict[str, int]:
    """The lines that wait for the device during four steps of two images, and how often."""
    request = bench.request(6)
    samples = [Sample(Task(key, request), 0, denoiser.kind_of(request), 2) for key in range(2)]
    denoiser.begin(samples)
    denoiser.step(samples, 4)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        for _ in range(4):
            denoiser.step(samples, 4)
        torch.cuda.set_sync_debug_mode("default")
    for sample in samples:
        denoiser.drop(sample)
    lines = (f"{Path(each.filename).name}:{each.lineno}" for each in caught if "synchronizing" in str(each.message))
    return dict(collections.Counter(lines))


def measured(bench: Bench, mode: CompileMode, steps_of: list[int], rows: Sequence[int] | None) -> dict[str, Any]:
    denoiser = bench.denoiser(mode)
    began = time.perf_counter()
    table = table_of(bench, denoiser, rows)
    made: dict[str, Any] = {"warm_up_seconds": round(time.perf_counter() - began, 1), "rows": table}
    by_rows = {rows: each["milliseconds"] / 1000 for rows, each in table.items()}
    decodes = measure(denoiser.time_decodes, 8)
    made["milliseconds of decoding so many"] = {each: round(1000 * seconds, 1) for each, seconds in decodes.items()}
    capacity = Capacity(denoiser.kind_of(bench.request(1)), by_rows, decodes=decodes)
    made["rows at once"] = capacity.rows
    if bench.device.type == "cuda":
        made["waits for the device in four steps"] = waits(bench, denoiser)
        made["gigabytes"] = round(torch.cuda.max_memory_allocated() / 1e9, 2)
    return made | {f"{steps} steps": images(bench, denoiser, capacity, steps, mode) for steps in steps_of}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", choices=sorted(MODELS), default="sd15")
    parser.add_argument("--pixels", type=int, help="default: the model's own size")
    parser.add_argument("--steps", type=int, nargs="*", default=[20, 50])
    parser.add_argument("--rows", type=int, nargs="+", help="default: as many as bring more")
    parser.add_argument("--images", type=int, default=16, help="drawn at once")
    modes = ["off", "regions", "default", "max"]
    parser.add_argument("--compile", choices=modes, nargs="+", default=modes[:2])
    chosen = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    torch._dynamo.config.recompile_limit = 64  # noqa: SLF001
    bench = Bench(chosen.model, chosen.pixels, chosen.images)
    made: dict[str, Any] = {
        "model": chosen.model,
        "pixels": bench.side,
        "images at once": bench.images,
        "device": torch.cuda.get_device_name() if bench.device.type == "cuda" else "cpu",
        "torch": torch.__version__,
        "matmul_tera_operations_a_second": round(bench.peak / 1e12, 3),
    }
    for mode in chosen.compile:
        made[mode] = measured(bench, mode, chosen.steps, chosen.rows)
        print(json.dumps({"so far": made}), file=sys.stderr, flush=True)
    print(json.dumps(made, indent=2))


if __name__ == "__main__":
    main()
