"""Submit-to-picture under Poisson arrivals: our engine, one job at a time, and static batches, on the same device.

    python benchmarks/latency.py [--seconds 120] [--model doodle] [--output FILE.json]

An open loop: jobs of 8 to 30 steps and two sizes arrive at 30, 60, 80 and 120 % of what a loop of the diffusers
pipeline can draw, at the same moments for each contestant. The engine is driven in this process, without a broker. "One
at a time" calls the pipeline for one after the other; "static batches" takes up to eight that wait and are alike.

Each load lasts for minutes, since a queue takes that long to become as long as it is on average: of the first forty
jobs the second slowest is a matter of luck, and says nothing about anybody's policy.
"""

import os
import queue
import random
import statistics
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

from benchmarks import report
from stablediffusiond.engine.capacity import Capacity, warm_up
from stablediffusiond.engine.engine import Engine
from stablediffusiond.engine.job import Event, Failed, Finished, Task
from stablediffusiond.engine.models import load_pipeline
from stablediffusiond.engine.pipeline_denoiser import PipelineDenoiser
from stablediffusiond.messages.complete_request import CompleteRequest
from stablediffusiond.settings import ModelSettings

LOADS = (0.3, 0.6, 0.8, 1.2)
STEPS = (8, 30)
STATIC_BATCH = 8


@dataclass(frozen=True)
class Arrival:
    moment: float  #: seconds after the beginning
    request: CompleteRequest


Contestant = Callable[[list[Arrival]], list[float]]


def arrivals(count: int, jobs_a_second: float, sizes: tuple[int, int], seed: int) -> list[Arrival]:
    rng = random.Random(seed)
    moment = 0.0
    made = []
    for place in range(count):
        moment += rng.expovariate(jobs_a_second)
        size = rng.choice(sizes)
        fields = {"prompt": "a red cat", "seed": place, "steps": rng.randint(*STEPS), "width": size, "height": size}
        made.append(Arrival(moment, CompleteRequest.model_validate(fields)))
    return made


def feed(jobs: list[Arrival], submit: Callable[[int, Arrival], None]) -> threading.Thread:
    """Submit each job at its moment, from a thread that does nothing else."""
    began = time.monotonic()

    def run() -> None:
        for place, job in enumerate(jobs):
            time.sleep(max(0.0, began + job.moment - time.monotonic()))
            submit(place, job)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def by_engine(denoiser: PipelineDenoiser, capacity: Capacity, jobs: list[Arrival]) -> list[float]:
    arrived: dict[int, float] = {}
    latencies: dict[int, float] = {}

    def on_event(event: Event) -> None:
        if isinstance(event, Failed):
            raise event.error
        if isinstance(event, Finished):
            latencies[event.task.key] = time.monotonic() - arrived[event.task.key]
            if len(latencies) == len(jobs):
                engine.stop()

    def submit(place: int, job: Arrival) -> None:
        arrived[place] = time.monotonic()
        engine.submit(Task(place, job.request))

    engine = Engine(denoiser, capacity, progress_interval_seconds=0.5, on_event=on_event)
    feeding = feed(jobs, submit)
    engine.run()
    feeding.join()
    return list(latencies.values())


def by_pipeline(pipeline: Any, jobs: list[Arrival], most: int) -> list[float]:
    """Up to ``most`` that wait and are alike in one call; with 1, one at a time."""
    waiting: queue.SimpleQueue[tuple[float, CompleteRequest]] = queue.SimpleQueue()
    feeding = feed(jobs, lambda _, job: waiting.put((time.monotonic(), job.request)))
    here: list[tuple[float, CompleteRequest]] = []
    latencies: list[float] = []
    while len(latencies) < len(jobs):
        if not here:
            here.append(waiting.get())
        while not waiting.empty():
            here.append(waiting.get())
        alike = [each for each in here if _kind(each[1]) == _kind(here[0][1])][:most]
        draw(pipeline, [request for _, request in alike])
        latencies += [time.monotonic() - since for since, _ in alike]
        here = [each for each in here if each not in alike]
    feeding.join()
    return latencies


def draw(pipeline: Any, requests: list[CompleteRequest]) -> None:
    pipeline(
        [request.prompt for request in requests],
        width=requests[0].width,
        height=requests[0].height,
        num_inference_steps=requests[0].steps,
        guidance_scale=7.5,
        generator=[torch.Generator("cpu").manual_seed(request.seed) for request in requests],
    )


def _kind(request: CompleteRequest) -> tuple[object, ...]:
    return request.width, request.height, request.steps


def percentiles(latencies: list[float]) -> dict[str, float]:
    cut = statistics.quantiles(latencies, n=100, method="inclusive")
    return {name: round(cut[place - 1], 3) for name, place in (("p50", 50), ("p95", 95), ("p99", 99))}


def capacity_of_a_loop(pipeline: Any, sizes: tuple[int, int]) -> float:
    """Jobs a second of the same mix, one after the other."""
    jobs = arrivals(16, 1.0, sizes, seed=0)
    draw(pipeline, [jobs[0].request])
    began = time.monotonic()
    for job in jobs:
        draw(pipeline, [job.request])
    return len(jobs) / (time.monotonic() - began)


def measure(contestants: dict[str, Contestant], seconds: float, rate: float, sizes: tuple[int, int]) -> dict[str, Any]:
    loads: dict[str, Any] = {}
    for load in LOADS:
        came = arrivals(round(rate * load * seconds), rate * load, sizes, seed=int(load * 100))
        row: dict[str, Any] = {name: percentiles(run(came)) for name, run in contestants.items()}
        loads[f"{load:.0%}"] = {"jobs": len(came), **row}
        print(f"{load:.0%}", loads[f"{load:.0%}"], file=sys.stderr)
    return loads


def plot(loads: dict[str, Any], path: Path) -> None:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 3.2), layout="constrained")
    colours = {"one at a time": "#bbbbbb", "static batches": "#888888", "engine": "#4c78a8"}
    for name, colour in colours.items():
        axes.plot(list(loads), [row[name]["p95"] for row in loads.values()], marker="o", color=colour, label=name)
    axes.set_xlabel("arrivals, of what a loop of the pipeline can draw")
    axes.set_ylabel("95th percentile, seconds")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = report.options(__doc__, "latency.json")
    parser.add_argument("--seconds", type=float, default=120, help="of arrivals, at each load")
    parser.add_argument("--model", default="doodle")
    chosen = parser.parse_args()
    pipeline = load_pipeline(ModelSettings(name=chosen.model))
    own = pipeline.unet.config.sample_size * pipeline.vae_scale_factor
    sizes = (own, own * 3 // 4)
    denoiser = PipelineDenoiser(pipeline, chosen.model)
    capacity = warm_up(denoiser, None)
    rate = capacity_of_a_loop(pipeline, sizes)
    contestants: dict[str, Contestant] = {
        "engine": lambda jobs: by_engine(denoiser, capacity, jobs),
        "one at a time": lambda jobs: by_pipeline(pipeline, jobs, 1),
        "static batches": lambda jobs: by_pipeline(pipeline, jobs, STATIC_BATCH),
    }
    loads = measure(contestants, chosen.seconds, rate, sizes)
    ratio = {load: round(row["engine"]["p95"] / row["one at a time"]["p95"], 3) for load, row in loads.items()}
    report.write(
        {
            "loop_jobs_per_second": round(rate, 3),
            "seconds_of_arrivals": chosen.seconds,
            "latency_seconds": loads,
            "p95_engine_to_one_at_a_time": ratio,
        },
        chosen.output,
    )
    if chosen.output:
        plot(loads, chosen.output.with_suffix(".png"))


if __name__ == "__main__":
    main()
