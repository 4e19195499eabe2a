"""The traffic of a real service with its many models, in a simulation: how long jobs wait, how often models are loaded.

    python -m benchmarks.trace --trace gentd26.csv.gz [--daemons 2] [--resident 3] [--load-seconds 10]

The trace (GenTD26, https://github.com/alibaba/clusterdata) is a CSV file with the columns second, model, images and
steps. Its busiest day is sped up until (a) has as much to do as ``--load`` says of its time. What is compared:

(a) one queue in order of arrival; each daemon draws one job at a time, keeps the models that it used last, and
    does nothing else while it loads: what a worker of a task queue does.
(b) the same, with a daemon for each of the largest models and one for all the others.
(c) this service (``trace_simulation.py``): a queue for each model, jobs of several models at once, loads beside the
    drawing; ``requestd/queue_choice.py`` says who gets a job, and ``engine/changeover.py`` what is loaded.

All draw so many image-steps a second, whatever they draw at once, so that nothing is gained by batching here.
"""

import csv
import gzip
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from benchmarks import report
from benchmarks.trace_simulation import Job, Outcome, Rules, this_service

_DAY_SECONDS: Final = 86_400


def read(path: Path) -> list[Job]:
    """The busiest day, from its first second on."""
    text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    lines = csv.DictReader(text.decode().splitlines())
    rows = [(float(row["second"]), row["model"], int(row["images"]), int(row["steps"])) for row in lines]
    days = Counter(int(second // _DAY_SECONDS) for second, *_ in rows)
    day, _ = days.most_common(1)[0]
    return [
        Job(second - day * _DAY_SECONDS, model, float(images * steps), images, steps)
        for second, model, images, steps in rows
        if second // _DAY_SECONDS == day
    ]


def sped_up(jobs: Sequence[Job], by: float) -> list[Job]:
    return [Job(job.arrival / by, job.model, job.work, job.images, job.steps) for job in jobs]


# (a) and (b): a job at a time


def one_at_a_time(jobs: Sequence[Job], rules: Rules, pinned: Sequence[str] = ()) -> Outcome:
    """In order of arrival. With ``pinned``, daemon k has only the k-th of them, and the last one all other models."""
    free = [0.0] * rules.daemons
    kept: list[deque[str]] = [deque(maxlen=rules.resident) for _ in free]
    loads, longest = 0, 0.0
    for job in jobs:
        if pinned:
            which = pinned.index(job.model) if job.model in pinned else len(pinned)
        else:
            which = min(range(rules.daemons), key=lambda each: free[each])
        job.began = max(job.arrival, free[which])
        longest = max(longest, job.began - job.arrival)
        models = kept[which]
        if job.model in models:
            models.remove(job.model)
        else:
            loads += 1
            job.began += rules.load_seconds
        models.append(job.model)
        job.done = free[which] = job.began + job.work / rules.rate
    return Outcome(list(jobs), loads, longest)


def load_of(jobs: Sequence[Job], rules: Rules) -> float:
    """The part of its time in which (a) draws or loads."""
    outcome = one_at_a_time(jobs, rules)
    busy = sum(job.work for job in jobs) / rules.rate + outcome.loads * rules.load_seconds
    return busy / rules.daemons / max(jobs[-1].arrival, 1.0)


def speed_for(jobs: Sequence[Job], rules: Rules, load: float) -> float:
    """How many times faster the jobs have to come so that (a) is busy for ``load`` of its time."""
    low, high = 1.0, 100_000.0
    while high / low > 1.01:
        middle = (low * high) ** 0.5
        low, high = (middle, high) if load_of(sped_up(jobs, middle), rules) < load else (low, middle)
    return low


def plot(outcomes: Mapping[str, Outcome], path: Path) -> None:
    """The part of all jobs that had ended after so long."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4))
    for name, outcome in outcomes.items():
        took = sorted(job.done - job.arrival for job in outcome.jobs)
        axes.plot(took, [(place + 1) / len(took) for place in range(len(took))], label=name)
    axes.set(xscale="log", xlabel="seconds from publication to the last picture", ylabel="part of the jobs")
    axes.legend()
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = report.options(__doc__, "trace.json")
    parser.add_argument("--trace", type=Path, required=True)
    parser.add_argument("--daemons", type=int, default=2)
    parser.add_argument("--resident", type=int, default=3, help="models that a daemon has room for")
    parser.add_argument("--load-seconds", type=float, default=10.0)
    parser.add_argument("--rate", type=float, default=60.0, help="image-steps a second")
    parser.add_argument("--load", type=float, default=0.8, help="how much of its time (a) is busy")
    parser.add_argument("--max-wait-seconds", type=float, default=150.0)
    given = parser.parse_args()
    rules = Rules(given.daemons, given.resident, given.rate, given.load_seconds, given.max_wait_seconds)
    day = read(given.trace)
    speed = speed_for(day, rules, given.load)
    largest = [name for name, _ in Counter(job.model for job in day).most_common(rules.daemons - 1)]
    outcomes = {
        "(a) in order of arrival": one_at_a_time(sped_up(day, speed), rules),
        "(b) pinned": one_at_a_time(sped_up(day, speed), rules, largest),
        "(c) this service": this_service(sped_up(day, speed), rules),
    }
    figures = {
        "jobs": len(day),
        "models": len({job.model for job in day}),
        "times_as_fast": round(speed, 1),
        "rules": asdict(rules),
        **{name: outcome.figures(rules) for name, outcome in outcomes.items()},
    }
    if given.output:
        plot(outcomes, given.output.with_suffix(".png"))
    report.write(figures, given.output)


if __name__ == "__main__":
    main()
