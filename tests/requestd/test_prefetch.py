"""The policy with the real batcher and a device that takes a second for each call; no broker, no thread, no clock."""

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stablediffusiond.engine.batcher import AGEING_SECONDS, Batcher, rank
from stablediffusiond.engine.capacity import Capacity
from stablediffusiond.engine.job import Kind, Sample, Task
from stablediffusiond.messages.complete_request import CompleteRequest
from stablediffusiond.messages.request import Priority
from stablediffusiond.requestd.prefetch import PrefetchPolicy, UnfinishedJob

OWN = Kind(64, 64)
KINDS = (OWN, Kind(32, 32), Kind(96, 64), Kind(128, 128), Kind(256, 256))
TABLE = {1: 1.0, 2: 1.1, 4: 1.5, 8: 2.5, 16: 4.5}
PRIORITIES: tuple[Priority, ...] = ("high", "normal", "low")


@dataclass(eq=False)
class Job:
    count: int = 1
    kind: Kind = OWN
    steps: int = 2
    rows: int = 2
    priority: Priority = "normal"
    samples: list[Sample] = field(default_factory=list)
    calls: int = 0  #: that were made while it was here and had not begun
    calls_of_its_size: int = 0
    overtaken: bool = False  #: a job of higher priority came after it and before it had begun

    @property
    def begun(self) -> bool:
        return any(sample.begun for sample in self.samples)


class Queues:
    """The request queues."""

    def __init__(self, jobs: Iterable[Job] = ()) -> None:
        self._jobs: dict[Priority, deque[Job]] = {priority: deque() for priority in PRIORITIES}
        self.publish(jobs)

    def __bool__(self) -> bool:
        return any(self._jobs.values())

    def publish(self, jobs: Iterable[Job]) -> None:
        for job in jobs:
            self._jobs[job.priority].append(job)

    def get(self, priority: Priority) -> Job | None:
        return self._jobs[priority].popleft() if self._jobs[priority] else None


class Daemon:
    """Takes jobs from ``queues`` while a call is made, as the real one does."""

    def __init__(self, queues: Queues, images: int = 8, *, high_alone: bool = False) -> None:
        self.now = 0.0
        self.jobs: list[Job] = []
        self.calls: list[list[Sample]] = []
        self._queues = queues
        self.capacity = Capacity(OWN, TABLE, images, clock=lambda: self.now)
        self._batcher = Batcher(self.capacity.rows_at_most, lambda: self.now, high_alone=high_alone)
        self._policy = PrefetchPolicy(self.capacity, high_alone=high_alone)
        self._keys = 0

    @property
    def idle(self) -> bool:
        return not self.jobs

    @property
    def waiting(self) -> list[Job]:
        """Those that should have begun: a call of their size was made while they were here."""
        return [job for job in self.jobs if job.calls_of_its_size]

    def take(self) -> None:
        """Take what the policy allows, one job at a time, the highest priority first."""
        for priority in PRIORITIES:
            while self._policy.may_take(priority, self._unfinished(), OWN) and (job := self._queues.get(priority)):
                self._add(job)

    def tick(self) -> None:
        """One call, during which jobs are taken."""
        batch = self._batcher.next_batch()
        for sample in batch:
            sample.state, sample.steps = object(), sample.task.request.steps
            sample.ending = sample.steps - sample.step <= 1
        for job in self.jobs:
            if not job.begun:
                job.calls += 1
                job.calls_of_its_size += job.kind == batch[0].kind
        self.take()
        self.now += 1.0
        if not batch:
            return
        self.calls.append(batch)
        self._batcher.charge(batch, 1.0)
        for sample in batch:
            sample.step += 1
            sample.finished = sample.step == sample.steps
        self._batcher.end([sample for sample in batch if sample.finished])
        self.jobs = [job for job in self.jobs if not all(sample.finished for sample in job.samples)]

    def _add(self, job: Job) -> None:
        self._keys += 1
        fields = {"prompt": "x", "count": job.count, "steps": job.steps, "priority": job.priority}
        task = Task(self._keys, CompleteRequest.model_validate(fields))
        job.samples = [Sample(task, index, job.kind, job.rows) for index in range(job.count)]
        for other in self.jobs:
            other.overtaken |= not other.begun and job.priority != other.priority
        self.jobs.append(job)
        self._batcher.add(job.samples)

    def _unfinished(self) -> list[UnfinishedJob]:
        found = [(job, sum(not sample.ending for sample in job.samples)) for job in self.jobs]
        return [
            UnfinishedJob(rank(job.priority, 0), job.priority == "high", job.kind, job.rows, images, job.begun)
            for job, images in found
            if images
        ]


def jobs(**fixed: object) -> st.SearchStrategy[list[Job]]:
    fields = {"count": st.integers(1, 16), "kind": st.sampled_from(KINDS), "steps": st.integers(1, 4)}
    chosen = {name: st.just(value) for name, value in fixed.items()}
    return st.lists(st.builds(Job, **{**fields, **chosen}), min_size=1, max_size=20)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_two_daemons_share_ten_jobs_of_sixteen_images(kind: Kind) -> None:
    queues = Queues(Job(16, kind) for _ in range(10))
    pair = [Daemon(queues), Daemon(queues)]
    while queues or not all(daemon.idle for daemon in pair):
        for daemon in pair:
            daemon.tick()
            assert not any(job.calls for job in daemon.jobs), "a job begins with the first call after it was taken"
        assert not (queues and any(daemon.idle for daemon in pair))
    calls_of_a_job = 2 * math.ceil(16 / max(1, pair[0].capacity.rows_at_most(kind) // 2))
    assert abs(len(pair[0].calls) - len(pair[1].calls)) <= calls_of_a_job


@given(st.lists(jobs(), min_size=1, max_size=4), st.integers(1, 3), st.integers(1, 12))
def test_whatever_the_sizes_no_job_waits_beside_one_that_is_drawn(
    arrivals: list[list[Job]], daemons: int, images: int
) -> None:
    """In a call of its size, the first that is made after it was taken, it has a place."""
    queues = Queues()
    several = [Daemon(queues, images) for _ in range(daemons)]
    for some in arrivals:
        queues.publish(some)
        for daemon in several * 3:
            daemon.tick()
            assert daemon.waiting == []
    while queues or not all(daemon.idle for daemon in several):
        for daemon in several:
            daemon.tick()
            assert daemon.waiting == []
        assert not (queues and any(daemon.idle for daemon in several))


@given(
    st.lists(
        st.lists(st.builds(Job, st.integers(1, 16), priority=st.sampled_from(PRIORITIES)), max_size=8), max_size=6
    ),
    st.integers(1, 12),
    st.booleans(),
)
def test_a_job_begins_at_once_unless_one_of_higher_priority_comes_after_it(
    arrivals: list[list[Job]], images: int, high_alone: bool
) -> None:
    queues = Queues()
    daemon = Daemon(queues, images, high_alone=high_alone)
    for some in arrivals:
        queues.publish(some)
        daemon.take()
        for _ in range(3):
            daemon.tick()
            assert [job for job in daemon.waiting if not job.overtaken] == []


def test_of_jobs_that_cannot_begin_beside_one_of_higher_priority_one_is_taken() -> None:
    """Their size is not known before: a batch of high priority would take in those of the model's own size."""
    queues = Queues([Job(steps=20, priority="high"), *(Job(kind=Kind(96, 64)) for _ in range(5))])
    daemon = Daemon(queues)
    daemon.take()
    for _ in range(5):
        daemon.tick()
        assert [job.begun for job in daemon.jobs] == [True, False]
    while queues:
        daemon.tick()
    while not daemon.idle:
        daemon.tick()
    assert len(daemon.calls) == 22


@given(st.integers(1, 60), st.integers(1, 12), st.sampled_from(KINDS), st.integers(1, 2), st.integers(1, 5))
def test_while_jobs_of_one_image_wait_every_call_is_as_large_as_it_may_be(
    count: int, images: int, kind: Kind, rows: int, steps: int
) -> None:
    queues = Queues(Job(1, kind, steps, rows) for _ in range(count))
    daemon = Daemon(queues, images)
    daemon.take()
    most = max(1, daemon.capacity.rows_at_most(kind) // rows)
    while queues:
        daemon.tick()
        assert not daemon.calls or len(daemon.calls[-1]) == most
    while not daemon.idle:
        daemon.tick()
    assert len(daemon.calls) == steps * -(-count // most)


def test_a_job_of_high_priority_is_taken_whatever_else_is_drawn() -> None:
    queues = Queues(Job(16) for _ in range(3))
    daemon = Daemon(queues)
    daemon.take()
    assert len(daemon.jobs) == 1
    urgent = Job(1, priority="high")
    queues.publish([urgent])
    daemon.tick()
    daemon.tick()
    assert urgent.begun
    assert len(daemon.jobs) == 2


def test_a_job_that_has_waited_long_counts_as_one_of_higher_priority() -> None:
    policy = PrefetchPolicy(Capacity(OWN, TABLE, 8), high_alone=False)

    def drawn(waited_seconds: float) -> list[UnfinishedJob]:
        return [UnfinishedJob(rank("normal", waited_seconds), urgent=False, kind=OWN, rows=2, images=8, begun=True)]

    assert policy.may_take("high", drawn(AGEING_SECONDS - 1), OWN)
    assert not policy.may_take("high", drawn(AGEING_SECONDS + 1), OWN)


def test_a_daemon_with_nothing_to_draw_takes_a_job_that_is_larger_than_its_batch() -> None:
    capacity = Capacity(OWN, TABLE, 1)
    capacity.learn_too_many(OWN, 2)
    assert capacity.rows_at_most(OWN) == 1
    assert PrefetchPolicy(capacity, high_alone=False).may_take("normal", [], OWN)
