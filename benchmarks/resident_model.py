"""What a job for a model that is resident waits for because there are other models.

    python -m benchmarks.resident_model [--jobs 10] [--rounds 20] [--output FILE.json]

Three request daemons of the built-in model, in turn: the first has no other, the second 199 more that nobody asks for,
the third 5 more (with itself, three have room), one of which is asked for once in each round, so that it is loaded
meanwhile. The same jobs arrive at random at each, with the built-in model busy for less than half of the time; only
they are counted. The rounds are short: what else this machine does then meets all three.
"""

import asyncio
import os
import random
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import accumulate
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
ALONE, IN_USE = "no other model", "5 others in use"
SERVICES = {ALONE: 0, "199 others at rest": 199, IN_USE: 5}


def others(count: int) -> list[str]:
    return [f"m{number}" for number in range(count)]


def arrivals(jobs: int, every_seconds: float, dice: random.Random) -> list[Job]:
    gaps = (dice.expovariate(1 / every_seconds) for _ in range(jobs))
    return [Job(moment, RESIDENT, STEPS, steps=STEPS) for moment in accumulate(gaps)]


def started(url: str, name: str, count: int) -> Daemon:
    environment = {
        "STABLEDIFFUSIOND_CONFIG": "",
        "STABLEDIFFUSIOND_BROKER__URL": url,
        "STABLEDIFFUSIOND_QUEUES__REQUESTS": topology_of(name).requests,
        "STABLEDIFFUSIOND_QUEUES__RESULTS": topology_of(name).results,
        **{f"STABLEDIFFUSIOND_MODELS__{model.upper()}__NAME": RESIDENT for model in others(count)},
        "STABLEDIFFUSIOND_RESIDENCY__DEVICE_BYTES": str(int((ROOM + 0.5) * MODEL_BYTES)),
        "STABLEDIFFUSIOND_RESIDENCY__MAX_WAIT_SECONDS": "10",
    }
    return request_daemon(environment)


def topology_of(name: str) -> Topology:
    key = name.replace(" ", "-")
    return Topology(key, f"results-of-{key}")


async def prepare(url: str, name: str, count: int) -> None:
    connection = await Connection.open(BrokerSettings.model_validate({"url": url}), "benchmark")
    await declare(connection, topology_of(name))
    await connection.close()
    await queues_of(url, topology_of(name), [RESIDENT, *others(count)])


def measure(url: str, name: str, jobs: Sequence[Job], other: str | None) -> list[float]:
    """The seconds of each of ``jobs``, soon after the first of which there is one for the model ``other``."""
    beside = [] if other is None else [Job(jobs[0].arrival, other, STEPS, steps=STEPS)]
    mixed = sorted([*jobs, *beside], key=lambda job: job.arrival)
    took, _ = asyncio.run(replay(url, topology_of(name), mixed, fifo=False))
    return [seconds for job, seconds in zip(mixed, took, strict=True) if job.model == RESIDENT]


def main() -> None:
    parser = report.options(__doc__, "resident_model.json")
    parser.add_argument("--jobs", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--apart-seconds", type=float, default=1.0)
    given = parser.parse_args()
    found: dict[str, list[float]] = {name: [] for name in SERVICES}
    in_use = others(SERVICES[IN_USE])
    with PrivateBroker() as broker, ExitStack() as running:
        daemons = {
            name: running.enter_context(started(broker.url, name, count)).wait_ready(300)
            for name, count in SERVICES.items()
        }
        for name, count in SERVICES.items():
            asyncio.run(prepare(broker.url, name, count))
        for number in range(given.rounds):
            jobs = arrivals(given.jobs, given.apart_seconds, random.Random(number))
            for name in random.Random(number).sample(list(SERVICES), len(SERVICES)):
                other = in_use[number % len(in_use)] if name == IN_USE else None
                found[name] += measure(broker.url, name, jobs, other)
        loads = daemons[IN_USE].log.count("is loaded in")
    seconds = {name: percentiles(took) for name, took in found.items()}
    ratios = {name: round(each["p95"] / seconds[ALONE]["p95"], 3) for name, each in seconds.items()}
    report.write({"seconds": seconds, "p95_ratios": ratios, "jobs": len(found[IN_USE]), "loads": loads}, given.output)


if __name__ == "__main__":
    main()
