"""Jobs without end, faults at random, and what has become of every job: lost, wrong, or as without faults.

    python benchmarks/soak.py [--minutes 10] [--faults all|none|disk|NAME,…] [--seed S] [--fake-denoiser] [--cluster]

A private broker, request daemons and a response daemon behind proxies, one client. The same seed makes the same faults
in the same order. With ``--fake-denoiser`` there is no model, and many more jobs: what is tested is their way, not the
device; one job in twenty is then one that the device fails for. With ``--cluster`` the broker is three nodes, without
proxies. The summary is JSON; the exit code is 1 if a job was lost or wrong, or anything is left in a queue.
"""

import argparse
import contextlib
import os
import random
import statistics
import sys
import threading
import time
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

from benchmarks import report
from stablediffusiond.messages.request import Priority
from tests.faults import failing_prompts, faults
from tests.faults.job_kinds import CRASHED, HARD_KINDS, POISON_MESSAGE
from tests.faults.job_records import JobRecord
from tests.faults.power_cut import PowerCutBroker
from tests.faults.service_under_test import ServiceUnderTest
from tools.private_cluster import PrivateCluster

_SAMPLE_SECONDS = 2.0
_PRIORITIES: tuple[Priority, ...] = ("normal", "normal", "high", "low")
_HARD_JOBS = 0.05
#: For ``larger than a message`` and for ``impatient_broker``.
_CONFIG = "max_message_size = 1048576\n"
_ADVANCED = "[{rabbit, [{channel_tick_interval, 500}]}]."


@dataclass
class Usage:
    """What one process used, from its start to its end: (jobs ended so far, megabytes, descriptors)."""

    samples: list[tuple[int, float, int]] = field(default_factory=list)

    def slope(self) -> float | None:
        """Megabytes for each thousand jobs, over the second half of its life."""
        later = self.samples[len(self.samples) // 2 :]
        if len(later) < 10 or later[-1][0] - later[0][0] < 100:
            return None
        jobs, megabytes = [sample[0] for sample in later], [sample[1] for sample in later]
        return statistics.linear_regression(jobs, megabytes).slope * 1000


class Soak:
    """Jobs and the meter on threads of their own; faults on the caller's, which outlives the broker that it starts."""

    def __init__(
        self, service: ServiceUnderTest, weights: dict[faults.Fault, int], seed: int, window: int, pause_seconds: float
    ) -> None:
        self._service = service
        self._weights = weights
        self._seed = seed
        self._window = window
        self._pause_seconds = pause_seconds
        self._stop = threading.Event()
        self.made: Counter[str] = Counter()
        self.usage: dict[str, dict[int, Usage]] = defaultdict(lambda: defaultdict(Usage))

    def run(self, seconds: float) -> None:
        with ThreadPoolExecutor() as pool:
            parts = [pool.submit(part) for part in (self._submit, self._measure)]
            try:
                self._break(time.monotonic() + seconds)
            except BaseException:
                self._service.client.close()  # or what is being submitted would be tried for ever
                raise
            finally:
                self._stop.set()
        for part in parts:
            part.result()

    def _submit(self) -> None:
        rng = random.Random(self._seed)
        hard = [kind for kind in self._service.client.kinds if kind in HARD_KINDS]
        kinds = [kind for kind in self._service.client.kinds if kind not in (*hard, failing_prompts.POISON)]
        while not self._stop.is_set():
            if self._service.client.records.wait_for_room(self._window, 1):
                kind = rng.choice(hard if hard and rng.random() < _HARD_JOBS else kinds)
                self._service.client.submit(kind, priority=rng.choice(_PRIORITIES))

    def _break(self, end: float) -> None:
        rng = random.Random(self._seed + 1)
        while time.monotonic() < end:
            time.sleep(rng.uniform(0, 2 * self._pause_seconds))
            if not self._weights:
                continue
            [fault] = rng.choices(list(self._weights), list(self._weights.values()))
            name, ended = fault.__name__, self._service.client.records.ended
            print(f"{time.strftime('%H:%M:%S')} fault {self.made.total() + 1}: {name} ({ended} jobs)", file=sys.stderr)
            fault(self._service, rng)
            self.made[name] += 1

    def _measure(self) -> None:
        while not self._stop.wait(_SAMPLE_SECONDS):
            ended = self._service.client.records.ended
            for name, (pid, megabytes, descriptors) in _resources(self._service).items():
                self.usage[name][pid].samples.append((ended, megabytes, descriptors))


def _resources(service: ServiceUnderTest) -> dict[str, tuple[int, float, int]]:
    """Each daemon's pid, resident megabytes and open descriptors, if it lives."""
    found = {}
    named = {f"stablediffusiond {n}": each for n, each in enumerate(service.requestds)}
    for name, daemon in {**named, "stablediffusion_responsed": service.responsed}.items():
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(daemon.process.pid)
            found[name] = (process.pid, process.memory_info().rss / 1e6, process.num_fds())
    return found


def summary(soak: Soak, service: ServiceUnderTest, reference: dict[str, JobRecord]) -> dict[str, Any]:
    records = service.client.records
    wrong = records.wrong(reference)
    crashed = sum(job.kind == failing_prompts.POISON for job in records.jobs.values())
    left = _left_over(service, {".dead": crashed} if crashed else {})
    made = {
        "jobs": len(records.jobs),
        "faults": soak.made.total(),
        "faults_by_kind": dict(sorted(soak.made.items())),
        "lost": len(records.lost()),
        "wrong": len(wrong),
        "replies_to_unknown_jobs": len(records.unknown_jobs),
        "duplicates_dropped": records.duplicates,
        "done_before_last_image": records.done_before_last_image(),
        "publishes_refused": service.client.refusals,
        "client_connections": service.client.reader.connections,
        "in_dead_because_they_crashed": crashed,
        "left_in_queues": left,
        "nodes_replaced": service.cluster.replacements if service.cluster else 0,
        "boots_forced": service.cluster.forced_boots if service.cluster else 0,
        "processes": {name: _summary(list(lives.values())) for name, lives in soak.usage.items()},
    }
    for name, what in list(wrong.items())[:20]:
        print(f"wrong: {name}: {what}", file=sys.stderr)
    for name in records.lost()[:20]:
        print(f"lost: {name}", file=sys.stderr)
    return made


def _left_over(service: ServiceUnderTest, expected: dict[str, int]) -> dict[str, int]:
    """What the queues hold besides, when they had time to become empty; RabbitMQ counts every five seconds."""
    deadline = time.monotonic() + 60
    while (left := service.depths()) != expected and time.monotonic() < deadline:
        time.sleep(1)
    return {} if left == expected else left


def _summary(lives: list[Usage]) -> dict[str, Any]:
    longest = max(lives, key=lambda usage: len(usage.samples))
    samples = [sample for usage in lives for sample in usage.samples]
    slope = longest.slope()
    return {
        "lives": len(lives),
        "most_megabytes": round(max(sample[1] for sample in samples), 1),
        "most_descriptors": max(sample[2] for sample in samples),
        "descriptors_at_the_end": samples[-1][2],
        "longest_life_jobs": longest.samples[-1][0] - longest.samples[0][0],
        "longest_life_megabytes": [round(longest.samples[0][1], 1), round(longest.samples[-1][1], 1)],
        "megabytes_per_1000_jobs": None if slope is None else round(slope, 2),
    }


def _weights(chosen: argparse.Namespace) -> dict[faults.Fault, int]:
    """The faults that were asked for."""
    weights = faults.OF_A_CLUSTER if chosen.cluster else faults.OF_A_NODE
    without = frozenset() if chosen.fake_denoiser else faults.OF_A_FAKE_DENOISER
    offered = {fault.__name__: fault for fault in weights if fault not in without}
    groups = {"all": list(offered), "none": [], "disk": [name for name in offered if offered[name] in faults.OF_DISKS]}
    named = [name for each in chosen.faults.split(",") for name in groups.get(each, [each])]
    if unknown := set(named) - set(offered):
        raise SystemExit(f"no such fault: {', '.join(sorted(unknown))}; there are {', '.join(offered)}")
    return {offered[name]: weights[offered[name]] for name in named}


def _service(chosen: argparse.Namespace, stack: contextlib.ExitStack) -> ServiceUnderTest:
    """A broker as it was asked for, and what works on it; up until ``stack`` is closed."""
    cluster = stack.enter_context(PrivateCluster(PowerCutBroker)) if chosen.cluster else None
    broker = None if cluster else stack.enter_context(PowerCutBroker(config=_CONFIG, advanced=_ADVANCED))
    service = stack.enter_context(
        ServiceUnderTest(
            fake_denoiser=chosen.fake_denoiser,
            requestds=chosen.daemons,
            broker=broker,
            cluster=cluster,
            models=chosen.models,
        )
    )
    if chosen.fake_denoiser:
        service.client.kinds.update(HARD_KINDS)
    return service


def _options() -> argparse.Namespace:
    parser = report.options(__doc__, "soak.json")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument(
        "--faults", default="all", help="all, none, disk, or names behind commas; a wrong one lists all"
    )
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--fake-denoiser", action="store_true")
    parser.add_argument("--cluster", action="store_true", help="a broker of three nodes")
    parser.add_argument("--daemons", type=int, default=2, help="request daemons")
    parser.add_argument("--models", type=int, default=1, help="with --fake-denoiser; two have room in a daemon")
    parser.add_argument("--window", type=int, default=40, help="jobs under way at a time")
    parser.add_argument("--pause", type=float, default=2, help="seconds from one fault to the next, on average")
    return parser.parse_args()


def main() -> int:
    chosen = _options()
    weights = _weights(chosen)
    print(f"seed {chosen.seed}", file=sys.stderr)
    with contextlib.ExitStack() as stack:
        service = _service(chosen, stack)
        reference = {**service.reference_run(), failing_prompts.POISON: CRASHED}
        service.client.kinds[failing_prompts.POISON] = POISON_MESSAGE
        for node in service.nodes:
            node.settle()
        soak = Soak(service, weights, chosen.seed, chosen.window, chosen.pause)
        soak.run(chosen.minutes * 60)
        unended = ""
        try:
            service.settle(240)
        except AssertionError as error:
            unended = str(error)
        made = summary(soak, service, reference)
        if unended or made["lost"] or made["wrong"]:
            print(service.broker.ctl("list_queues", "name", "leader", "online", "messages"), file=sys.stderr)
            print(*(node.log()[-20_000:] for node in service.nodes), sep="\n", file=sys.stderr)
            print(unended, *(d.log[-8000:] for d in (*service.requestds, service.responsed)), sep="\n", file=sys.stderr)
    about = {name: getattr(chosen, name) for name in ("minutes", "seed", "fake_denoiser", "cluster", "models")}
    report.write({**about, **made}, chosen.output)
    return int(bool(made["lost"] or made["wrong"] or made["left_in_queues"]))


if __name__ == "__main__":
    sys.exit(main())
