"""The traffic of a real service with its many models, in a simulation: how long jobs wait, how often models are loaded.

    python -m benchmarks.trace --trace gentd26.csv.gz [--daemons 2] [--resident 3] [--load-seconds 10]

The trace (GenTD26, https://github.com/alibaba/clusterdata) is a CSV file with the columns second, model, images and
steps. Its busiest day is sped up until (a) has as much to do as ``--load`` says of its time. What is compared:

(a) one queue in order of arrival; each daemon draws one job at a time, keeps the models that it used last, and
    does nothing else while it loads: what a worker of a task queue does.
(b) the same, with a daemon for each of the largest models and one for all the others.
(c) this service: jobs of several models at once, loads beside the drawing, and ``engine/changeover.py`` decides.

All draw so many image-steps a second, whatever they draw at once, so that nothing is gained by batching here.
"""

import argparse
import csv
import gzip
import heapq
import statistics
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from stablediffusiond.engine.changeover import Change, Resident, Wanted, next_change, next_look

_DAY_SECONDS: Final = 86_400
_MOST_WAITING: Final = 16  #: as in requestd/model_set.py
_MOST_DRAWING: Final = 4


@dataclass(eq=False)
class Job:
    arrival: float
    model: str
    work: float  #: image-steps
    done: float = 0.0
    began: float = 0.0


@dataclass(frozen=True)
class Rules:
    daemons: int
    resident: int  #: models that a daemon has room for
    rate: float  #: image-steps a second
    load_seconds: float
    max_wait_seconds: float


@dataclass
class Outcome:
    jobs: list[Job]
    loads: int
    longest_model_wait: float

    def line(self, name: str, rules: Rules) -> str:
        took = sorted(job.done - job.arrival for job in self.jobs)
        p50, p95, p99 = (took[min(int(len(took) * part), len(took) - 1)] for part in (0.5, 0.95, 0.99))
        busy = self.loads * rules.load_seconds / (rules.daemons * max(job.done for job in self.jobs))
        return (
            f"{name:28} p50 {p50:8.1f} s   p95 {p95:8.1f} s   p99 {p99:8.1f} s   {self.loads:5} loads, "
            f"{busy:5.1%} of the time; a model waited {self.longest_model_wait:.0f} s at most"
        )


def read(path: Path) -> list[Job]:
    """The busiest day, from its first second on."""
    text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    lines = csv.DictReader(text.decode().splitlines())
    rows = [(float(row["second"]), row["model"], int(row["images"]) * int(row["steps"])) for row in lines]
    days = Counter(int(second // _DAY_SECONDS) for second, _, _ in rows)
    day, _ = days.most_common(1)[0]
    of_day = [row for row in rows if row[0] // _DAY_SECONDS == day]
    return [Job(second - day * _DAY_SECONDS, model, float(work)) for second, model, work in of_day]


def sped_up(jobs: Sequence[Job], by: float) -> list[Job]:
    return [Job(job.arrival / by, job.model, job.work) for job in jobs]


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


# (c): this service


@dataclass
class Daemon:
    rules: Rules
    residents: dict[str, float] = field(default_factory=dict)  #: and when they were last used
    drawing: list[Job] = field(default_factory=list)
    left: dict[int, float] = field(default_factory=dict)  #: image-steps of each
    waiting: list[Job] = field(default_factory=list)
    change: Change | None = None
    loaded_at: float | None = None
    loads: int = 0
    at: float = 0.0

    def go_to(self, now: float) -> None:
        """Draw until then: those that are drawn have equal parts of the device."""
        share = self.rules.rate / max(len(self.drawing), 1)
        for job in self.drawing:
            self.left[id(job)] -= (now - self.at) * share
        self.at = now
        for job in [job for job in self.drawing if self.left[id(job)] <= 1e-6]:
            self.drawing.remove(job)
            del self.left[id(job)]
            self.residents[job.model] = job.done = now
        if self.loaded_at is not None and self.loaded_at <= now and self.change is not None:
            self.residents[self.change.load] = now
            self.change = self.loaded_at = None

    def has_room(self) -> bool:
        return len(self.drawing) < _MOST_DRAWING and len(self.waiting) < _MOST_WAITING

    def decide(self) -> None:
        leaving = self.change.unload if self.change else ()
        for job in [job for job in self.waiting if job.model in self.residents and job.model not in leaving]:
            self.waiting.remove(job)
            job.began = self.at
            self.drawing.append(job)
            self.left[id(job)] = job.work
        if self.change is None:
            self.change = next_change(
                self.at, self._shown(), self._wanted(), self.rules.resident, self.rules.max_wait_seconds
            )
        if self.change is not None and self.loaded_at is None and not self._in_use(self.change.unload):
            for name in self.change.unload:
                del self.residents[name]
            self.loads += 1
            self.loaded_at = self.at + self.rules.load_seconds

    def next_event(self) -> float:
        share = self.rules.rate / max(len(self.drawing), 1)
        times = [self.at + max(self.left[id(job)], 0.0) / share for job in self.drawing]
        times += [self.loaded_at] if self.loaded_at is not None else []
        later = next_look(self.at, self._wanted(), self.rules.max_wait_seconds)
        return min(times + ([self.at + later] if later is not None else []), default=float("inf"))

    def _in_use(self, names: Sequence[str]) -> bool:
        return any(job.model in names for job in self.drawing)

    def _shown(self) -> list[Resident]:
        jobs = Counter(job.model for job in self.drawing)
        return [Resident(name, 1, jobs[name], used) for name, used in self.residents.items()]

    def _wanted(self) -> list[Wanted]:
        since = {job.model: job.arrival for job in reversed(self.waiting) if job.model not in self.residents}
        return [Wanted(name, 1, first) for name, first in since.items()]


def this_service(jobs: Sequence[Job], rules: Rules) -> Outcome:
    daemons = [Daemon(rules) for _ in range(rules.daemons)]
    queue: deque[Job] = deque()
    coming = [(job.arrival, place) for place, job in enumerate(jobs)]
    heapq.heapify(coming)
    while coming or queue or any(daemon.drawing or daemon.waiting for daemon in daemons):
        now = min([coming[0][0]] if coming else [], default=float("inf"))
        now = min(now, *(daemon.next_event() for daemon in daemons))
        for daemon in daemons:
            daemon.go_to(now)
        while coming and coming[0][0] <= now:
            queue.append(jobs[heapq.heappop(coming)[1]])
        for daemon, job in _delivered(queue, daemons):
            daemon.waiting.append(job)
            daemon.decide()
        for daemon in daemons:
            daemon.decide()
    longest = max(job.began - job.arrival for job in jobs)
    return Outcome(list(jobs), sum(daemon.loads for daemon in daemons), longest)


def _delivered(queue: deque[Job], daemons: Sequence[Daemon]) -> Iterator[tuple[Daemon, Job]]:
    """Jobs in their order to whoever has room, in turns, as RabbitMQ gives them out."""
    turn = 0
    while queue and (able := [daemon for daemon in daemons if daemon.has_room()]):
        yield able[turn % len(able)], queue.popleft()
        turn += 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trace", type=Path, required=True)
    parser.add_argument("--daemons", type=int, default=2)
    parser.add_argument("--resident", type=int, default=3, help="models that a daemon has room for")
    parser.add_argument("--load-seconds", type=float, default=10.0)
    parser.add_argument("--rate", type=float, default=60.0, help="image-steps a second")
    parser.add_argument("--load", type=float, default=0.8, help="how much of its time (a) is busy")
    parser.add_argument("--max-wait-seconds", type=float, default=30.0)
    given = parser.parse_args()
    rules = Rules(given.daemons, given.resident, given.rate, given.load_seconds, given.max_wait_seconds)
    day = read(given.trace)
    speed = speed_for(day, rules, given.load)
    work = statistics.median(job.work for job in day) / rules.rate
    models = len({job.model for job in day})
    print(f"{len(day)} jobs of {models} models, {speed:.0f} times as fast; the median takes {work:.1f} s")
    largest = [name for name, _ in Counter(job.model for job in day).most_common(rules.daemons - 1)]
    print(one_at_a_time(sped_up(day, speed), rules).line("(a) in order of arrival", rules))
    print(one_at_a_time(sped_up(day, speed), rules, largest).line("(b) pinned", rules))
    print(this_service(sped_up(day, speed), rules).line("(c) this service", rules))


if __name__ == "__main__":
    main()
