"""The daemon against what one would use instead: the same jobs, model and threads, in turn, in one run.

    python benchmarks/throughput.py [--jobs 24] [--steps 50] [--rounds 3] [--model doodle] [--output FILE.json]

Jobs go through RabbitMQ to the running daemon and their pictures are read from the socket, as PNG. Against it stand a
loop of the diffusers pipeline, diffusers with static batches of eight (which knows all jobs beforehand), a Celery
worker (acks late, prefetch 1) around the same pipeline, and the device's own limit: so many full calls of the UNet, and
one decode an image, and nothing else. Each figure is the median over the rounds of ratios of neighbours.
"""

import base64
import contextlib
import io
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

from benchmarks import report
from benchmarks.device_limit import device_limit
from benchmarks.service import Service, running
from stablediffusiond.client import Client, Image
from stablediffusiond.engine.capacity import best_rows, measure
from stablediffusiond.engine.job import Sample, Task
from stablediffusiond.engine.models import load_pipeline
from stablediffusiond.engine.pipeline_denoiser import PipelineDenoiser
from stablediffusiond.messages.complete_request import CompleteRequest
from stablediffusiond.settings import ModelSettings

Fields = dict[str, Any]
PROMPTS = ("a red cat", "a blue house on a green ground", "three boats", "the moon", "a tree", "a small yellow fish")
STATIC_BATCH = 8
_ALONE = 12


def requests(jobs: int, steps: int) -> list[Fields]:
    """Text-to-image jobs that differ in prompt and seed, with the guidance that everybody uses."""
    return [{"prompt": PROMPTS[place % len(PROMPTS)], "seed": place, "steps": steps} for place in range(jobs)]


def by_pipeline(pipeline: Any, jobs: list[Fields], batch: int = 1) -> list[bytes]:
    pictures: list[bytes] = []
    for first in range(0, len(jobs), batch):
        some = jobs[first : first + batch]
        made = pipeline(
            [fields["prompt"] for fields in some],
            num_inference_steps=some[0]["steps"],
            guidance_scale=7.5,
            generator=[torch.Generator("cpu").manual_seed(fields["seed"]) for fields in some],
        )
        pictures += [_png(image) for image in made.images]
    return pictures


def by_daemon(client: Client, jobs: list[Fields]) -> list[bytes]:
    submitted = [client.submit(fields) for fields in jobs]
    return [
        next(event.data for event in job.events(timeout_seconds=1800) if isinstance(event, Image)) for job in submitted
    ]


@contextlib.contextmanager
def celery(broker_url: str, model: str) -> Iterator[Callable[[list[Fields]], list[bytes]]]:
    """A Celery worker on the same broker, and a function that has jobs done by it."""
    os.environ |= {"BROKER": broker_url, "MODEL": model}
    from benchmarks.celery_worker import app, draw

    command = [sys.executable, "-m", "celery", "-A", "benchmarks.celery_worker", "worker", "--pool", "solo"]
    worker = subprocess.Popen([*command, "--loglevel", "error"], cwd=Path(__file__).parents[1])
    try:
        draw.delay({"prompt": "", "seed": 0, "steps": 1}).get(timeout=90)
        yield lambda jobs: [
            base64.b64decode(result.get(timeout=1800)) for result in [draw.delay(fields) for fields in jobs]
        ]
    finally:
        worker.terminate()
        worker.wait(60)
        app.close()


def share_outside_the_unet(pipeline: Any) -> float:
    """Of a step of as many images as are best: schedulers, guidance, putting rows together and taking them apart."""
    denoiser = PipelineDenoiser(pipeline, "share")
    rows = best_rows(measure(denoiser.time_rows))
    request = CompleteRequest(prompt="a red cat", steps=20)
    samples = [Sample(Task(key, request), 0, denoiser.kind_of(request), 2) for key in range(max(1, rows // 2))]
    denoiser.begin(samples)
    steps, calls = [], []
    for _ in range(request.steps):
        steps.append(seconds(lambda: denoiser.step(samples, rows)))
        calls.append(denoiser.time_rows(2 * len(samples)))
    return 1 - statistics.median(calls) / statistics.median(steps)


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def measure_all(
    pipeline: Any,
    service: Service,
    by_celery: Callable[[list[Fields]], list[bytes]],
    limit: Callable[[list[Fields]], float],
    *,
    jobs: list[Fields],
    rounds: int,
) -> dict[str, list[float]]:
    """Seconds of each, round by round, in turn."""
    contestants: dict[str, Callable[[], object]] = {
        "daemon": lambda: by_daemon(service.client, jobs),
        "loop": lambda: by_pipeline(pipeline, jobs),
        "static": lambda: by_pipeline(pipeline, jobs, STATIC_BATCH),
        "celery": lambda: by_celery(jobs),
    }
    by = {"loop_alone": partial(by_pipeline, pipeline), "alone": partial(by_daemon, service.client)}
    took: dict[str, list[float]] = {name: [] for name in (*contestants, "limit", *by)}
    by_daemon(service.client, jobs[:2])
    by_pipeline(pipeline, jobs[:1])
    for _ in range(rounds):
        for number, fields in enumerate(jobs[:_ALONE]):
            for name in ("loop_alone", "alone")[:: 1 if number % 2 else -1]:  # who comes second has a warmer machine
                took[name].append(seconds(partial(by[name], [fields])))
        for name, work in contestants.items():
            took[name].append(seconds(work))
            if name == "daemon":
                took["limit"].append(limit(jobs))
        print({name: [round(each, 2) for each in values] for name, values in took.items()}, file=sys.stderr)
    return took


def figures(took: dict[str, list[float]], jobs: int, memory: dict[str, float]) -> dict[str, Any]:
    def times_the(other: str) -> float:
        return round(statistics.median(b / a for a, b in zip(took["daemon"], took[other], strict=True)), 3)

    alone = [ours - theirs for ours, theirs in zip(took["alone"], took["loop_alone"], strict=True)]
    ratios = [ours / theirs for ours, theirs in zip(took["alone"], took["loop_alone"], strict=True)]
    contestants = ("daemon", "loop", "static", "celery", "limit")
    return {
        "jobs_per_second": {name: round(jobs / statistics.median(took[name]), 3) for name in contestants},
        "daemon_to_loop": times_the("loop"),
        "daemon_to_static_batches_of_8": times_the("static"),
        "daemon_to_celery": times_the("celery"),
        "share_of_the_devices_limit": times_the("limit"),
        "alone_to_pipeline_call": round(statistics.median(ratios), 3),
        "alone_above_pipeline_call_milliseconds": round(statistics.median(alone) * 1000, 1),
        "resident_megabytes": memory,
        "rounds": len(took["daemon"]),
    }


def plot(rates: dict[str, float], path: Path) -> None:
    from matplotlib import pyplot

    labels = {
        "loop": "loop of the\npipeline",
        "celery": "Celery",
        "static": "static batches\nof 8",
        "daemon": "stablediffusiond",
        "limit": "the device's\nlimit",
    }
    figure, axes = pyplot.subplots(figsize=(7.2, 3.2), layout="constrained")
    colours = ["#4c78a8" if name == "daemon" else "#bbbbbb" for name in labels]
    bars = axes.bar(list(labels.values()), [rates[name] for name in labels], color=colours)
    axes.bar_label(bars, fmt="%.2f")
    axes.set_ylabel("jobs a second")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = report.options(__doc__, "throughput.json")
    parser.add_argument("--jobs", type=int, default=24)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="doodle")
    chosen = parser.parse_args()
    jobs = requests(chosen.jobs, chosen.steps)
    pipeline = load_pipeline(ModelSettings(name=chosen.model))
    with (
        device_limit(chosen.model) as limit,
        running(chosen.model) as service,
        celery(service.broker.url, chosen.model) as by_celery,
    ):
        took = measure_all(pipeline, service, by_celery, limit, jobs=jobs, rounds=chosen.rounds)
        memory = service.resident_megabytes()
    made = figures(took, len(jobs), memory)
    made["share_of_a_step_outside_the_unet"] = round(share_outside_the_unet(pipeline), 4)
    report.write(made, chosen.output)
    if chosen.output:
        plot(made["jobs_per_second"], chosen.output.with_suffix(".png"))


def _png(image: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


if __name__ == "__main__":
    main()
