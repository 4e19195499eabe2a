"""The daemon against a plain loop of the diffusers pipeline: the same jobs, model and threads, in turn, in one run.

    python benchmarks/throughput.py [--jobs 24] [--steps 50] [--rounds 3] [--model doodle] [--output FILE.json]

``throughput``: the jobs go through RabbitMQ to the running daemon and their pictures are read from the socket, all of
them as PNG; the loop calls ``StableDiffusionPipeline`` for one after the other and makes a PNG of each. Its goal was
1.5. ``one job alone``: submit to last byte on an idle daemon, against one pipeline call and its PNG; its goal was at
most 1.10. Each figure is the median over the rounds of ratios of neighbours in time. The memory of the processes is
that after the first round.
"""

import argparse
import io
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

from stablediffusiond.client import Client, Image
from stablediffusiond.engine.models import load_pipeline
from stablediffusiond.settings import ModelSettings, Settings
from tools.daemons import Daemon, request_daemon, response_daemon
from tools.private_broker import PrivateBroker

Wish = dict[str, Any]
PROMPTS = ("a red cat", "a blue house on a green ground", "three boats", "the moon", "a tree", "a small yellow fish")


def wishes(jobs: int, steps: int) -> list[Wish]:
    """Text-to-image jobs that differ in prompt and seed, with the guidance that everybody uses."""
    return [{"prompt": PROMPTS[place % len(PROMPTS)], "seed": place, "steps": steps} for place in range(jobs)]


def by_pipeline(pipeline: Any, wish: Wish) -> bytes:
    generator = torch.Generator("cpu").manual_seed(wish["seed"])
    out = io.BytesIO()
    made = pipeline(wish["prompt"], num_inference_steps=wish["steps"], guidance_scale=7.5, generator=generator)
    made.images[0].save(out, "PNG")
    return out.getvalue()


def by_daemon(client: Client, jobs: list[Wish]) -> list[bytes]:
    submitted = [client.submit(**wish) for wish in jobs]
    return [
        next(event.png for event in job.events(timeout_seconds=1800) if isinstance(event, Image)) for job in submitted
    ]


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def measure(pipeline: Any, client: Client, jobs: list[Wish], rounds: int) -> dict[str, list[float]]:
    """Seconds of each, round by round, in turn."""
    took: dict[str, list[float]] = {"pipeline_alone": [], "daemon_alone": [], "pipeline": [], "daemon": []}
    by_daemon(client, jobs[:2])
    by_pipeline(pipeline, jobs[0])
    for _ in range(rounds):
        for wish in jobs[:3]:
            took["pipeline_alone"].append(seconds(lambda wish=wish: by_pipeline(pipeline, wish)))
            took["daemon_alone"].append(seconds(lambda wish=wish: by_daemon(client, [wish])))
        took["pipeline"].append(seconds(lambda: [by_pipeline(pipeline, wish) for wish in jobs]))
        took["daemon"].append(seconds(lambda: by_daemon(client, jobs)))
        print({name: [round(each, 2) for each in values] for name, values in took.items()}, file=sys.stderr)
    return took


def report(took: dict[str, list[float]], jobs: int, memory: dict[str, float]) -> dict[str, Any]:
    faster = [loop / daemon for loop, daemon in zip(took["pipeline"], took["daemon"], strict=True)]
    slower = [daemon / loop for loop, daemon in zip(took["pipeline_alone"], took["daemon_alone"], strict=True)]
    return {
        "throughput_ratio": round(statistics.median(faster), 3),
        "one_job_alone_ratio": round(statistics.median(slower), 3),
        "pipeline_jobs_per_second": round(jobs / statistics.median(took["pipeline"]), 3),
        "daemon_jobs_per_second": round(jobs / statistics.median(took["daemon"]), 3),
        "pipeline_alone_seconds": round(statistics.median(took["pipeline_alone"]), 3),
        "daemon_alone_seconds": round(statistics.median(took["daemon_alone"]), 3),
        "resident_megabytes": memory,
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "device": "cuda" if torch.cuda.is_available() else "cpu",
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
        },
    }


def resident(daemon: Daemon) -> float:
    return round(psutil.Process(daemon.process.pid).memory_info().rss / 1e6, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--jobs", type=int, default=24)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="doodle")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    jobs = wishes(options.jobs, options.steps)
    pipeline = load_pipeline(ModelSettings(name=options.model))
    with PrivateBroker() as broker:
        environment = {
            "STABLEDIFFUSIOND_CONFIG": "",
            "STABLEDIFFUSIOND_BROKER__URL": broker.url,
            "STABLEDIFFUSIOND_MODEL__NAME": options.model,
        }
        with request_daemon(environment) as requestd, response_daemon(environment) as responsed:
            requestd.wait_ready(600)
            responsed.wait_ready()
            settings = Settings.model_validate(
                {"broker": {"url": broker.url}, "responses": {"host": "127.0.0.1", "port": responsed.port()}}
            )
            with Client(settings) as client:
                took = measure(pipeline, client, jobs, options.rounds)
                memory = {"stablediffusiond": resident(requestd), "stablediffusion_responsed": resident(responsed)}
    text = json.dumps(report(took, len(jobs), memory), indent=2)
    print(text)
    if options.output:
        options.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
