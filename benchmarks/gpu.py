"""What the engine makes of a GPU: Stable Diffusion 1.5 and SDXL's UNet at full size, with random weights.

    python benchmarks/gpu.py [--model sd15|sdxl|tiny] [--pixels 512] [--steps 20 50] [--rows 1 2 4] [--compile default]

It needs torch, transformers, diffusers and this package, and no download. It prints JSON: the device's rate
for large matrix products; the UNet by rows, eager and compiled (calls a second, rows a second, share of that rate,
memory); and, for whole pipelines, images a second of sixteen images in flight in our engine against diffusers' own
pipeline, one at a time, eager and compiled with channels-last. ``tiny`` is for trying the script on a CPU.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.random_models import UNETS, VAES, pipeline_around, random_unet
from stablediffusiond.engine.capacity import warm_up
from stablediffusiond.engine.engine import Engine
from stablediffusiond.engine.job import Event, Failed, Finished, Task
from stablediffusiond.engine.models import at_its_fastest
from stablediffusiond.engine.pipeline_denoiser import PipelineDenoiser
from stablediffusiond.messages.complete_request import CompleteRequest
from stablediffusiond.settings import CompileMode

IN_FLIGHT = 16


class Bench:
    """One model on one device."""

    def __init__(self, name: str, pixels: int | None, device: torch.device) -> None:
        self.name, self.device = name, device
        self.dtype = torch.float32 if device.type == "cpu" else torch.float16
        self.unet = random_unet(name, device, self.dtype)
        self.side = (pixels or 8 * self.unet.config.sample_size) // 8

    def inputs(self, rows: int) -> tuple[tuple[torch.Tensor, ...], dict[str, Any]]:
        """What a UNet call takes, for so many rows."""
        made: dict[str, Any] = {"device": self.device, "dtype": self.dtype}
        latents = torch.randn(rows, 4, self.side, self.side, **made).contiguous(memory_format=torch.channels_last)
        words = torch.randn(rows, 77, self.unet.config.cross_attention_dim, **made)
        keywords: dict[str, Any] = {"encoder_hidden_states": words, "return_dict": False}
        if self.name == "sdxl":
            keywords["added_cond_kwargs"] = {
                "text_embeds": torch.randn(rows, 1280, **made),
                "time_ids": torch.tensor([[1024, 1024, 0, 0, 1024, 1024]], **made).expand(rows, -1),
            }
        return (latents, torch.full((rows,), 500.0, device=self.device)), keywords

    def seconds(self, work: Callable[[], object], calls: int = 5) -> float:
        """The median time of ``work``, after two calls that do not count."""
        taken = []
        for _ in range(calls + 2):
            self.synchronize()
            began = time.perf_counter()
            work()
            self.synchronize()
            taken.append(time.perf_counter() - began)
        return statistics.median(taken[2:])

    def synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def matmul_rate(self) -> float:
        """Operations a second of a large matrix product."""
        size = 8192 if self.device.type == "cuda" else 512
        a, b = (torch.randn(size, size, device=self.device, dtype=self.dtype) for _ in range(2))
        return 2 * size**3 / self.seconds(lambda: a @ b)

    def operations_a_row(self) -> int:
        arguments, keywords = self.inputs(1)
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            self.unet(*arguments, **keywords)
        return int(counter.get_total_flops())

    @torch.inference_mode()
    def rows(self, counts: list[int], unet: Any, peak: float) -> dict[str, dict[str, float]]:
        """By row count: calls and rows a second, share of ``peak``, memory."""
        table = {}
        operations = self.operations_a_row()
        for rows in counts:
            arguments, keywords = self.inputs(rows)
            if self.device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(self.device)
            try:
                taken = self.seconds(partial(unet, *arguments, **keywords))
            except torch.OutOfMemoryError:
                break
            table[str(rows)] = {
                "calls_a_second": round(1 / taken, 3),
                "rows_a_second": round(rows / taken, 3),
                "share_of_matmul_rate": round(operations * rows / taken / peak, 4),
            }
            if self.device.type == "cuda":
                table[str(rows)]["gigabytes"] = round(torch.cuda.max_memory_allocated(self.device) / 1e9, 2)
            print(rows, table[str(rows)], file=sys.stderr)
        return table


def images_a_second(bench: Bench, steps: int, mode: CompileMode) -> dict[str, float]:
    """Ours with sixteen in flight and alone, diffusers one at a time, eager and compiled."""
    pipeline, side = pipeline_around(bench.unet, bench.name), 8 * bench.side
    made: dict[str, float] = {}

    def by_diffusers() -> None:
        pipeline("a red cat", num_inference_steps=steps, guidance_scale=7.5, width=side, height=side)

    made["diffusers eager"] = 1 / bench.seconds(by_diffusers, calls=3)
    at_its_fastest(pipeline)
    denoiser = PipelineDenoiser(pipeline, bench.name, compile_mode=mode)
    capacity = warm_up(denoiser, None)

    def by_engine(images: int) -> None:
        def on_event(event: Event) -> None:
            if isinstance(event, Failed):
                raise event.error
            if isinstance(event, Finished):
                ended.append(event.task.key)
                if len(ended) == images:
                    engine.stop()

        ended: list[int] = []
        engine = Engine(denoiser, capacity, progress_interval_seconds=1, on_event=on_event)
        for key in range(images):
            fields = {"prompt": "a red cat", "steps": steps, "seed": key, "width": side, "height": side}
            engine.submit(Task(key, CompleteRequest.model_validate(fields)))
        engine.run()

    made["engine, 16 in flight"] = IN_FLIGHT / bench.seconds(lambda: by_engine(IN_FLIGHT), calls=1)
    made["engine, alone"] = 1 / bench.seconds(lambda: by_engine(1), calls=3)
    if mode != "off":
        pipeline.unet = torch.compile(pipeline.unet, mode="default" if mode == "default" else "max-autotune")
        made["diffusers compiled"] = 1 / bench.seconds(by_diffusers, calls=3)
    return {name: round(value, 4) for name, value in made.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", choices=sorted(UNETS), default="sd15")
    parser.add_argument("--pixels", type=int, help="default: the model's own size")
    parser.add_argument("--steps", type=int, nargs="*", default=[20, 50])
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32])
    parser.add_argument("--compile", choices=["off", "default", "max"], default="default")
    chosen = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    bench = Bench(chosen.model, chosen.pixels, device)
    peak = bench.matmul_rate()
    made: dict[str, Any] = {
        "model": chosen.model,
        "pixels": 8 * bench.side,
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "torch": torch.__version__,
        "matmul_tera_operations_a_second": round(peak / 1e12, 3),
        "giga_operations_a_row": round(bench.operations_a_row() / 1e9, 3),
        "eager": bench.rows(chosen.rows, bench.unet.to(memory_format=torch.channels_last), peak),
    }
    if chosen.compile != "off":
        mode = "default" if chosen.compile == "default" else "max-autotune"
        made["compiled"] = bench.rows(chosen.rows, torch.compile(bench.unet, mode=mode, dynamic=False), peak)
    if chosen.model in VAES:
        made["images_a_second"] = {
            f"{steps} steps": images_a_second(bench, steps, chosen.compile) for steps in chosen.steps
        }
    print(json.dumps(made, indent=2))


if __name__ == "__main__":
    main()
