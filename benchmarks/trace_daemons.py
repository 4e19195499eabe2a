"""The traffic of a real service with its many models, for real: two daemons, and two workers of a plain queue, in turn.

    python -m benchmarks.trace_daemons --trace gentd26.csv.gz [--jobs 200] [--load-seconds 4] [--output FILE.json]

The first jobs of the busiest day, sped up until workers that take them in order of arrival (``fifo_worker.py``) are
busy for 0.8 of their time. Every model is the built-in one under another name, and takes ``--load-seconds`` to load;
pictures are small, with a third of the steps. Both sides have one thread of torch for each daemon or worker.
"""

import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ["OMP_NUM_THREADS"] = "1"

from benchmarks import report
from benchmarks.trace import read, sped_up, speed_for
from benchmarks.trace_simulation import Job, Rules, this_service
from stablediffusiond.broker.connection import Connection
from stablediffusiond.broker.message import Delivery, Message
from stablediffusiond.broker.topology import Queue, Topology, declare, declare_queues, depths
from stablediffusiond.settings import BrokerSettings
from tools.daemons import CHECKOUT, Daemon
from tools.private_broker import PrivateBroker

DAEMONS = 2
ROOM = 3
SIZE = 128
STEPS_PART = 3
MODEL_BYTES = 17_700_000
FIFO = "fifo"


def fields_of(job: Job) -> dict[str, Any]:
    """``job.work`` is in image-steps of the trace's own steps, of which a part is drawn."""
    steps = max(1, job.steps // STEPS_PART)
    size = {"width": SIZE, "height": SIZE}
    return {"prompt": "a red cat", "model": job.model, "count": job.images, "steps": steps, **size}


def step_seconds() -> float:
    """Of one image, with one thread while another process computes as well."""
    from stablediffusiond.engine.models import load_pipeline
    from stablediffusiond.settings import ModelSettings

    pipeline = load_pipeline(ModelSettings())
    pipeline("", num_inference_steps=2, width=SIZE, height=SIZE)
    took = []
    for _ in range(3):
        began = time.perf_counter()
        pipeline("", num_inference_steps=10, width=SIZE, height=SIZE)
        took.append((time.perf_counter() - began) / 10)
    return statistics.median(took)


async def replay(url: str, topology: Topology, jobs: Sequence[Job], *, fifo: bool) -> tuple[list[float], int]:
    """The seconds of each job from its publication to its last reply, and how many said that a model was loaded."""
    connection = await Connection.open(BrokerSettings.model_validate({"url": url}), "benchmark")
    channel = await connection.channel()
    await channel.confirm_publishes()
    replies = f"results.{uuid.uuid4()}"
    await declare_queues(connection, [topology.results_queue(replies)])
    published: dict[str, float] = {}
    took: dict[str, float] = {}
    loads, ended = 0, asyncio.Event()

    def on_reply(delivery: Delivery) -> None:
        nonlocal loads
        message = delivery.message
        if message.type in {"done", "failed"}:
            assert message.type == "done", message.body
            took[message.correlation_id or ""] = time.monotonic() - published[message.correlation_id or ""]
            loads += int(message.headers.get("loaded", 0))
            if len(took) == len(jobs):
                ended.set()
        delivery.ack()

    await channel.consume(replies, on_reply, prefetch=100)
    began = time.monotonic()
    for number, job in enumerate(jobs):
        await asyncio.sleep(max(0.0, began + job.arrival - time.monotonic()))
        published[str(number)] = time.monotonic()
        queue = FIFO if fifo else topology.request_queue("normal", job.model)
        body = json.dumps(fields_of(job)).encode()
        await channel.publish(Message(body, message_id=str(number), reply_to=replies), "", queue)
    await ended.wait()
    await connection.close()
    return [took[str(number)] for number in range(len(jobs))], loads


@contextmanager
def workers(url: str, load_seconds: float) -> Iterator[None]:
    command = [sys.executable, "-m", "benchmarks.fifo_worker", url, FIFO, str(ROOM), str(load_seconds)]
    running = [subprocess.Popen(command, cwd=CHECKOUT) for _ in range(DAEMONS)]
    try:
        yield
    finally:
        for worker in running:
            worker.kill()
            worker.wait()


@contextmanager
def daemons(url: str, models: Sequence[str], load_seconds: float, max_wait_seconds: float) -> Iterator[list[Daemon]]:
    environment = {
        "STABLEDIFFUSIOND_CONFIG": "",
        "STABLEDIFFUSIOND_BROKER__URL": url,
        **{f"STABLEDIFFUSIOND_MODELS__{model.upper()}__NAME": "doodle" for model in models},
        "STABLEDIFFUSIOND_RESIDENCY__DEVICE_BYTES": str(int((ROOM + 0.5) * MODEL_BYTES)),
        "STABLEDIFFUSIOND_RESIDENCY__MAX_WAIT_SECONDS": str(max_wait_seconds),
    }
    with ExitStack() as stack:
        module = "benchmarks.requestd_with_load_time"
        both = [stack.enter_context(Daemon(module, environment, str(load_seconds))) for _ in range(DAEMONS)]
        for daemon in both:
            daemon.wait_ready(300)
        yield both


async def queues_of(url: str, topology: Topology, models: Sequence[str]) -> None:
    """Return when the daemons have declared the queues of all models."""
    connection = await Connection.open(BrokerSettings.model_validate({"url": url}), "benchmark")
    names = {topology.request_queue("low", model) for model in models}
    while names - set(await depths(connection, names)):  # noqa: ASYNC110 (RabbitMQ tells nobody)
        await asyncio.sleep(0.5)
    await connection.close()


async def prepare(url: str, topology: Topology) -> None:
    connection = await Connection.open(BrokerSettings.model_validate({"url": url}), "benchmark")
    await declare(connection, topology)
    await declare_queues(connection, [Queue(FIFO)])
    await connection.close()


def percentiles(took: Sequence[float]) -> dict[str, float]:
    ordered = sorted(took)
    return {f"p{part}": round(ordered[min(len(ordered) * part // 100, len(ordered) - 1)], 2) for part in (50, 95, 99)}


def main() -> None:
    parser = report.options(__doc__, "models.json")
    parser.add_argument("--trace", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--load-seconds", type=float, default=4.0)
    parser.add_argument("--max-wait-seconds", type=float, default=30.0)
    parser.add_argument("--load", type=float, default=0.8, help="how much of their time the workers are busy")
    given = parser.parse_args()
    rate = STEPS_PART / step_seconds()
    rules = Rules(DAEMONS, ROOM, rate, given.load_seconds, given.max_wait_seconds)
    part = read(given.trace)[: given.jobs]
    first = part[0].arrival
    # Names that come from the environment are in small letters.
    part = [Job(job.arrival - first, job.model.lower(), job.work, job.images, job.steps) for job in part]
    jobs = sped_up(part, speed_for(part, rules, given.load))
    models = sorted({job.model for job in jobs})
    topology = Topology()
    with PrivateBroker() as broker:
        asyncio.run(prepare(broker.url, topology))
        with workers(broker.url, given.load_seconds):
            plain, plain_loads = asyncio.run(replay(broker.url, topology, jobs, fifo=True))
        with daemons(broker.url, models, given.load_seconds, given.max_wait_seconds) as both:
            asyncio.run(queues_of(broker.url, topology, models))
            ours, _ = asyncio.run(replay(broker.url, topology, jobs, fifo=False))
            loads = sum(daemon.log.count("is loaded in") for daemon in both)
    simulated = this_service(sped_up(jobs, 1.0), rules)
    figures = {
        "jobs": len(jobs), "models": len(models), "seconds": round(jobs[-1].arrival),
        "in_order_of_arrival": {**percentiles(plain), "loads": plain_loads},
        "this_service": {**percentiles(ours), "loads": loads},
        "this_service_simulated": {
            **percentiles([job.done - job.arrival for job in simulated.jobs]), "loads": simulated.loads,
        },
        "p95_ratio": round(percentiles(ours)["p95"] / percentiles(plain)["p95"], 3),
        "loads_ratio": round(loads / plain_loads, 3),
    }  # fmt: skip
    report.write(figures, given.output)


if __name__ == "__main__":
    main()
