"""The policy by itself: no torch, no thread, no clock but the test's."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from stablediffusiond.engine.batcher import AGEING_SECONDS, Batcher
from stablediffusiond.engine.job import Kind, Sample, Task
from stablediffusiond.messages.complete_request import CompleteRequest

ROWS = 4
SQUARE, WIDE = Kind(64, 64), Kind(96, 64)


class Bench:
    """A batcher with a device that takes a second for every call of the network."""

    def __init__(self, rows: int = ROWS, *, high_alone: bool = False) -> None:
        self.now = 0.0
        self.batcher = Batcher(self._rows_at_most, lambda: self.now, high_alone=high_alone)
        self._keys = 0
        self._rows = rows
        self.urgent_rows: list[int] = []

    def _rows_at_most(self, shape: Kind, urgent_rows: int) -> int:
        self.urgent_rows.append(urgent_rows)
        return self._rows

    def add(
        self, priority: str = "normal", *, count: int = 1, steps: int = 3, shape: Kind = SQUARE, rows: int = 1
    ) -> list[Sample]:
        self._keys += 1
        fields = {"id": str(self._keys), "prompt": "x", "count": count, "priority": priority, "steps": steps}
        task = Task(self._keys, CompleteRequest.model_validate(fields))
        samples = [Sample(task, index, shape, rows) for index in range(count)]
        self.batcher.add(samples)
        return samples

    def step(self, seconds: float = 1.0) -> list[Sample]:
        """One call of the network; returns who was in it."""
        batch = self.batcher.next_batch()
        for sample in batch:
            sample.state, sample.steps = object(), sample.task.request.steps
            sample.step += 1
            sample.finished = sample.step == sample.steps
        self.now += seconds
        self.batcher.charge(batch, seconds)
        self.batcher.end([sample for sample in batch if sample.finished])
        return batch


PRIORITIES = st.sampled_from(["low", "normal", "high"])
JOBS = st.tuples(PRIORITIES, st.integers(1, 6), st.integers(1, 5), st.sampled_from([SQUARE, WIDE]), st.integers(1, 2))


@given(st.lists(st.tuples(st.integers(0, 20), JOBS), max_size=12), st.integers(1, 5))
def test_every_image_makes_every_step_once_in_calls_of_one_shape_that_are_not_too_large(
    arrivals: list[tuple[int, tuple[str, int, int, Kind, int]]], rows: int
) -> None:
    bench = Bench(rows)
    arrivals = sorted(arrivals, key=lambda arrival: arrival[0])
    samples: list[Sample] = []
    stepped: Counter[int] = Counter()
    while arrivals or not bench.batcher.idle:
        while arrivals and (arrivals[0][0] <= bench.now or bench.batcher.idle):
            priority, count, steps, shape, own_rows = arrivals.pop(0)[1]
            samples += bench.add(priority, count=count, steps=steps, shape=shape, rows=own_rows)
        batch = bench.step()
        assert len({sample.kind for sample in batch}) == 1
        assert len(batch) == 1 or sum(sample.rows for sample in batch) <= rows
        assert len(set(map(id, batch))) == len(batch)
        stepped.update(map(id, batch))
    assert all(stepped[id(sample)] == sample.task.request.steps for sample in samples)


@given(st.lists(st.tuples(PRIORITIES, st.integers(1, 5)), min_size=1, max_size=10), st.integers(1, 5))
def test_no_image_steps_while_one_of_higher_priority_is_left_out(jobs: list[tuple[str, int]], rows: int) -> None:
    bench = Bench(rows)
    rank = {"high": 0, "normal": 1, "low": 2}
    for priority, count in jobs:
        bench.add(priority, count=count)
    while not bench.batcher.idle:
        waiting = bench.batcher.samples
        batch = bench.step(seconds=0.01)  # nobody ages
        left_out = [rank[sample.task.request.priority] for sample in waiting if sample not in batch]
        assert all(rank[sample.task.request.priority] <= min(left_out, default=2) for sample in batch)


def test_a_place_is_filled_at_the_next_step() -> None:
    bench = Bench()
    for _ in range(6):
        bench.add(steps=2)
    assert [len(bench.step()) for _ in range(4)] == [4, 4, 2, 2]


def test_a_high_image_takes_the_place_of_a_low_one_which_goes_on_later_from_where_it_was() -> None:
    bench = Bench(rows=2)
    first, second = bench.add("low", steps=5), bench.add("low", steps=5)
    bench.step()
    high = bench.add("high", steps=2)
    assert bench.step() == [*high, *first]
    assert (second[0].step, second[0].begun) == (1, True)
    bench.add("low", steps=5)
    assert bench.step() == [*high, *first]
    assert bench.step() == [*first, *second]  # and not the low one that has not begun
    assert second[0].step == 2


def test_high_images_may_have_the_device_to_themselves() -> None:
    bench = Bench(high_alone=True)
    low = bench.add("low", steps=5)
    high = bench.add("high", steps=2)
    assert [bench.step(), bench.step()] == [high, high]
    assert bench.step() == low


def test_normal_and_low_share_a_call_whatever_high_ones_do() -> None:
    bench = Bench(high_alone=True)
    normal, low = bench.add("normal"), bench.add("low")
    assert bench.step() == [*normal, *low]


def test_jobs_take_turns_image_by_image() -> None:
    bench = Bench(rows=2)
    many, one = bench.add(count=6, steps=1), bench.add(steps=1)
    assert bench.step() == [many[0], one[0]]
    assert bench.step() == many[1:3]


def test_low_is_slow_and_never_stuck() -> None:
    bench = Bench(rows=1)
    [low] = bench.add("low", steps=2)
    for _ in range(1000):
        bench.add("high", steps=1)
        bench.step()
        if low.finished:
            break
    assert 2 * AGEING_SECONDS <= bench.now <= 2 * AGEING_SECONDS + 10


def test_a_high_image_of_another_shape_goes_first_too() -> None:
    bench = Bench()
    bench.add("low", steps=9)
    bench.step()
    high = bench.add("high", shape=WIDE)
    assert bench.step() == high


def test_shapes_take_turns_by_the_device_time_an_image_gets() -> None:
    bench = Bench()
    for _ in range(4):
        bench.add(steps=150)
    bench.add(steps=150, shape=WIDE)
    seconds = {SQUARE: 0.0, WIDE: 0.0}
    for _ in range(150):
        took = 2.0 if len(bench.batcher.next_batch()) == 4 else 1.0
        batch = bench.step(took / 100)
        seconds[batch[0].kind] += took
    assert 3.5 < seconds[SQUARE] / seconds[WIDE] < 4.5


def test_a_shape_that_comes_late_has_no_credit_for_its_absence() -> None:
    bench = Bench()
    bench.add(steps=150)
    for _ in range(100):
        bench.step(0.01)
    bench.add(steps=150, shape=WIDE)
    assert Counter(bench.step(0.01)[0].kind for _ in range(10)) == {SQUARE: 5, WIDE: 5}


def test_dropping_a_task_takes_all_of_it() -> None:
    bench = Bench(rows=2)
    [dropped, *_], other = bench.add(count=5), bench.add()
    bench.step()
    bench.batcher.drop(dropped.task.key)
    assert bench.batcher.samples == tuple(other)


def test_it_is_said_how_many_rows_are_urgent() -> None:
    bench = Bench()
    bench.add("low", count=2)
    bench.add("high", count=2, rows=2)
    bench.step()
    assert bench.urgent_rows == [4]
