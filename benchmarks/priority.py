"""How long a job of high priority takes while two hundred of low priority wait, against an idle daemon.

    python benchmarks/priority.py [--low 200] [--steps 25] [--rounds 5] [--model doodle] [--output FILE.json]

Through RabbitMQ and the socket, once as it is, sharing UNet calls with low ones, and once with ``[engine] high_alone``.
"""

import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

from benchmarks import report
from benchmarks.service import Service, running


def latency(service: Service, steps: int, seed: int) -> float:
    began = time.perf_counter()
    service.client.draw(prompt="a red cat", seed=seed, steps=steps, priority="high")
    return time.perf_counter() - began


def measure(service: Service, low: int, steps: int, rounds: int) -> dict[str, Any]:
    latency(service, steps, 0)
    idle = [latency(service, steps, seed) for seed in range(rounds)]
    jobs = [service.client.submit(prompt="a tree", seed=seed, steps=steps, priority="low") for seed in range(low)]
    service.requestd.wait_log(f"job {jobs[0].id} begins")
    busy = [latency(service, steps, seed) for seed in range(rounds)]
    waiting = low - service.requestd.log.count(" done: ") + 2 * rounds + 1
    for job in jobs:
        service.client.cancel(job.id)
    for job in jobs:
        for _ in job.events(timeout_seconds=600):
            pass
    return {
        "idle_seconds": round(statistics.median(idle), 3),
        "seconds_into_low_jobs": round(statistics.median(busy), 3),
        "ratio": round(statistics.median(busy) / statistics.median(idle), 3),
        "low_jobs_still_waiting_at_the_end": waiting,
    }


def plot(made: dict[str, Any], path: Path) -> None:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(5, 3), layout="constrained")
    bars = axes.bar(list(made), [each["ratio"] for each in made.values()], color="#4c78a8", width=0.5)
    axes.bar_label(bars, fmt="%.2f")
    axes.axhline(1, color="#888888", linewidth=1)
    axes.set_ylabel("times its latency on an idle daemon")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = report.options(__doc__, "priority.json")
    parser.add_argument("--low", type=int, default=200)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", default="doodle")
    chosen = parser.parse_args()
    made: dict[str, Any] = {}
    for name, high_alone in (("sharing calls", "false"), ("high_alone", "true")):
        with running(chosen.model, STABLEDIFFUSIOND_ENGINE__HIGH_ALONE=high_alone) as service:
            made[name] = measure(service, chosen.low, chosen.steps, chosen.rounds)
        print(name, made[name], file=sys.stderr)
    report.write({"low_jobs": chosen.low, "steps": chosen.steps, **made}, chosen.output)
    if chosen.output:
        plot(made, chosen.output.with_suffix(".png"))


if __name__ == "__main__":
    main()
