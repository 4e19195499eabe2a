"""Our service in a simulation: request daemons that take jobs from a queue for each model, as the real ones do.

The rules are the real ones: who gets a job (the constants of ``requestd/queue_choice.py``) and what is loaded
(``engine/changeover.py``). What takes time is not: a daemon makes so many image-steps a second, shared by the jobs that
it draws, and a load takes as long as it is said to.
"""

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from stablediffusiond.engine.changeover import Change, Resident, Wanted, next_change, next_look
from stablediffusiond.requestd.queue_choice import (
    ABSENT,
    ABSENT_BESIDE_OTHERS,
    MOST_WAITED_FOR,
    MOST_WAITING,
    RESIDENT,
    WAITED_FOR,
)

#: In place of ``requestd/prefetch.py``, which looks at what jobs cost.
_MOST_DRAWING: Final = 4


@dataclass(eq=False)
class Job:
    arrival: float
    model: str
    work: float  #: image-steps
    images: int = 1
    steps: int = 1
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

    def figures(self, rules: Rules) -> dict[str, float]:
        took = sorted(job.done - job.arrival for job in self.jobs)
        p50, p95, p99 = (took[min(int(len(took) * part), len(took) - 1)] for part in (0.5, 0.95, 0.99))
        loading = self.loads * rules.load_seconds / (rules.daemons * max(job.done for job in self.jobs))
        return {
            "p50_seconds": round(p50, 1),
            "p95_seconds": round(p95, 1),
            "p99_seconds": round(p99, 1),
            "loads": self.loads,
            "part_of_the_time_loading": round(loading, 3),
            "longest_wait_for_a_model_seconds": round(self.longest_model_wait),
        }


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
    last: dict[str, int] = field(default_factory=dict)  #: the number of the last job from each queue
    taken: int = 0

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

    def priority(self, model: str) -> int | None:
        """With which consumer priority it takes a job of ``model`` now."""
        if self._is_free(model):
            return RESIDENT if len(self.drawing) < _MOST_DRAWING else None
        waiting = Counter(job.model for job in self.waiting)
        if model in waiting:
            return WAITED_FOR if waiting[model] < MOST_WAITING else None
        if len(waiting) >= MOST_WAITED_FOR:
            return None
        return ABSENT_BESIDE_OTHERS if waiting else ABSENT

    def take(self, job: Job) -> None:
        self.taken += 1
        self.last[job.model] = self.taken
        self.waiting.append(job)
        self.decide()

    def decide(self) -> None:
        for job in [job for job in self.waiting if self._is_free(job.model)]:
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
        later = next_look(self.at, self._shown(), self._wanted(), self.rules.max_wait_seconds)
        return min(times + ([self.at + later + 1e-6] if later is not None else []), default=float("inf"))

    def _is_free(self, model: str) -> bool:
        return model in self.residents and not (self.change and model in self.change.unload)

    def _in_use(self, names: Sequence[str]) -> bool:
        return any(job.model in names for job in self.drawing)

    def _shown(self) -> list[Resident]:
        jobs = Counter(job.model for job in self.drawing)
        return [Resident(name, 1, jobs[name], used) for name, used in self.residents.items()]

    def _wanted(self) -> list[Wanted]:
        since: dict[str, float] = {}
        for job in self.waiting:
            if job.model not in self.residents:
                since[job.model] = min(job.arrival, since.get(job.model, job.arrival))
        return [Wanted(name, 1, first) for name, first in since.items()]


def this_service(jobs: Sequence[Job], rules: Rules) -> Outcome:
    daemons = [Daemon(rules) for _ in range(rules.daemons)]
    queues: dict[str, deque[Job]] = {job.model: deque() for job in jobs}
    coming = deque(jobs)
    while coming or any(queues.values()) or any(daemon.drawing or daemon.waiting for daemon in daemons):
        arrival = coming[0].arrival if coming else float("inf")
        now = min(arrival, *(daemon.next_event() for daemon in daemons))
        for daemon in daemons:
            daemon.go_to(now)
        while coming and coming[0].arrival <= now:
            job = coming.popleft()
            queues[job.model].append(job)
        for daemon in daemons:
            daemon.decide()
        while _deliver(queues, daemons):
            pass
    longest = max(job.began - job.arrival for job in jobs)
    return Outcome(list(jobs), sum(daemon.loads for daemon in daemons), longest)


def _deliver(queues: Mapping[str, deque[Job]], daemons: Sequence[Daemon]) -> bool:
    """One job, as RabbitMQ does: to a consumer of the highest priority. A daemon looks at its queues in turn."""
    offers = [
        (-priority, daemon.last.get(model, 0), len(daemon.drawing), place, model)
        for place, daemon in enumerate(daemons)
        for model, queue in queues.items()
        if queue and (priority := daemon.priority(model)) is not None
    ]
    if not offers:
        return False
    *_, place, model = min(offers)
    daemons[place].take(queues[model].popleft())
    return True
