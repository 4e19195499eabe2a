"""What a job for a model that is resident waits for because there are other models.

    python -m benchmarks.resident_model [--jobs 60] [--rounds 3] [--output FILE.json]

Three request daemons of the built-in model, in turn: the first has no other, the second 199 more that nobody asks for,
the third 5 more (with itself, three have room), one of which is asked for every ``--every-seconds``, so that most of
those jobs are preceded by a load. The same jobs arrive at random at each, with the built-in model busy for less than
half of the time; only they are counted.
"""

import asyncio
import os
import random
import statistics
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

from benchmarks import report
from benchmarks.trace_daemons import MODEL_BYTES, ROOM, percentiles, queues_of, replay
from benchmarks.trace_simulation import Job
from stablediffusiond.broker.connection import Connection
from stablediffusiond.broker.topology import Topology, declare
from stablediffusiond.settings import BrokerSettings
from tools.daemons import Daemon, request_daemon
from tools.private_broker import PrivateBroker

RESIDENT = "doodle"
STEPS = 30  # of which a third is drawn
SERVICES = {"no other model": 0, "199 others at rest": 199, "5 others in use": 5}
IN_USE = "5 others in use"


def others(count: int) -> list[str]:
    return [f"m{number}" for number in range(count)]


def arrivals(jobs: int, every_seconds: float, dice: random.Random) -> list[Job]:
    moments, now = [], 0.0
    for _ in range(jobs):
        now += dice.expovariate(1 / every_seconds)
        moments.append(Job(now, RESIDENT, STEPS, steps=STEPS))
    return moments


def started(url: str, name: str, count: int) -> Daemon:
    environment = {
        "STABLEDIFFUSIOND_CONFIG": "",
        "STABLEDIFFUSIOND_BROKER__URL": url,
        "STABLEDIFFUSIOND_QUEUES__REQUESTS": topology_of(name).requests,
        **{f"STABLEDIFFUSIOND_MODELS__{model.upper()}__NAME": RESIDENT for model in others(count)},
        "STABLEDIFFUSIOND_RESIDENCY__DEVICE_BYTES": str(int((ROOM + 0.5) * MODEL_BYTES)),
        "STABLEDIFFUSIOND_RESIDENCY__MAX_WAIT_SECONDS": "10",
    }
    return request_daemon(environment)


def topology_of(name: str) -> Topology:
    return Topology(name.replace(" ", "-"))


async def prepare(url: str, name: str, count: int) -> None:
    connection = await Connection.open(BrokerSettings.model_validate({"url": url}), "benchmark")
    await declare(connection, topology_of(name))
    await connection.close()
    await queues_of(url, topology_of(name), [RESIDENT, *others(count)])


def measure(url: str, name: str, jobs: Sequence[Job], every_seconds: float, models: list[str]) -> list[float]:
    """The seconds of each of ``jobs``, among which are jobs for ``models``."""
    last = jobs[-1].arrival
    beside = [
        Job(number * every_seconds, model, STEPS, steps=STEPS)
        for number, model in zip(range(1, int(last / every_seconds)), models * len(jobs), strict=False)
    ]
    mixed = sorted([*jobs, *beside], key=lambda job: job.arrival)
    took, _ = asyncio.run(replay(url, topology_of(name), mixed, fifo=False))
    return [seconds for job, seconds in zip(mixed, took, strict=True) if job.model == RESIDENT]


def main() -> None:
    parser = report.options(__doc__, "resident_model.json")
    parser.add_argument("--jobs", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--apart-seconds", type=float, default=1.2)
    parser.add_argument("--every-seconds", type=float, default=15.0)
    given = parser.parse_args()
    found: dict[str, list[dict[str, float]]] = {name: [] for name in SERVICES}
    with PrivateBroker() as broker, ExitStack() as running:
        daemons = {
            name: running.enter_context(started(broker.url, name, count)).wait_ready(300)
            for name, count in SERVICES.items()
        }
        for name, count in SERVICES.items():
            asyncio.run(prepare(broker.url, name, count))
        for number in range(given.rounds):
            jobs = arrivals(given.jobs, given.apart_seconds, random.Random(number))
            for name in SERVICES:
                in_use = others(SERVICES[IN_USE]) if name == IN_USE else []
                found[name].append(percentiles(measure(broker.url, name, jobs, given.every_seconds, in_use)))
        loads = daemons[IN_USE].log.count("is loaded in")
    p95 = {name: statistics.median(each["p95"] for each in rounds) for name, rounds in found.items()}
    ratios = {name: round(each / p95["no other model"], 3) for name, each in p95.items()}
    report.write({"rounds": found, "p95_seconds": p95, "ratios": ratios, "loads": loads}, given.output)


if __name__ == "__main__":
    main()
