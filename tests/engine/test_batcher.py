"""The policy by itself: no torch, no thread, no clock but the test's."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from stablediffusiond.engine.batcher import Batcher
from stablediffusiond.engine.job import Sample, Task
from stablediffusiond.messages.request import Request


class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def task(key: int, count: int = 1, priority: str = "normal") -> Task:
    return Task(key, Request.model_validate({"id": str(key), "prompt": "x", "count": count, "priority": priority}))


def admit(batcher: Batcher, shape: object = "square", steps: int = 3) -> list[tuple[int, int]]:
    """Begin all images that the batcher lets in; returns (task, index)."""
    begun = []
    while (following := batcher.next_image()) is not None:
        each, index = following
        batcher.begin(Sample(each, index, None, shape, 2, steps))
        begun.append((each.key, index))
    return begun


@given(
    st.lists(st.tuples(st.integers(1, 6), st.sampled_from(["low", "normal", "high"]), st.integers(1, 5)), max_size=12),
    st.integers(1, 5),
)
def test_every_image_is_drawn_once_and_never_too_many_at_a_time(
    jobs: list[tuple[int, str, int]], max_images: int
) -> None:
    batcher = Batcher(max_images, Clock())
    for key, (count, priority, _) in enumerate(jobs):
        batcher.add(task(key, count, priority))
    begun: Counter[tuple[int, int]] = Counter()
    while not batcher.idle:
        while (following := batcher.next_image()) is not None:
            each, index = following
            begun[each.key, index] += 1
            batcher.begin(Sample(each, index, None, jobs[each.key][2] % 2, 2, jobs[each.key][2]))
            assert len(batcher.running) <= max_images
        batch = batcher.next_batch()
        assert len({sample.shape for sample in batch}) == 1
        batcher.charge(batch, 1.0)
        for sample in batch:
            sample.step += 1
        batcher.end([sample for sample in batch if sample.finished])
    assert begun == Counter((key, index) for key, (count, _, _) in enumerate(jobs) for index in range(count))


def test_higher_priorities_come_first_and_equals_in_their_order() -> None:
    batcher = Batcher(10, Clock())
    for key, priority in enumerate(["low", "normal", "high", "normal", "high"]):
        batcher.add(task(key, 1, priority))
    assert [key for key, _ in admit(batcher)] == [2, 4, 1, 3, 0]


def test_low_is_slow_and_never_stuck() -> None:
    clock = Clock()
    batcher = Batcher(1, clock)
    batcher.add(task(0, 1, "low"))
    for key in range(1, 200):
        batcher.add(task(key, 1, "high"))
        [(begun, _)] = admit(batcher)
        if begun == 0:
            return
        clock.now += 10
        batcher.end(batcher.running)
    raise AssertionError("the low one waited for 2000 seconds")


def test_a_job_of_many_images_lets_a_higher_one_in_between() -> None:
    batcher = Batcher(2, Clock())
    batcher.add(task(0, 6))
    assert admit(batcher) == [(0, 0), (0, 1)]
    batcher.add(task(1, 1, "high"))
    batcher.end(batcher.running[:1])
    assert admit(batcher) == [(1, 0)]


def test_shapes_take_turns_by_the_device_time_an_image_gets() -> None:
    batcher = Batcher(8, Clock())
    for key in range(4):
        batcher.add(task(key))
    admit(batcher, "square", steps=1000)
    batcher.add(task(9))
    admit(batcher, "wide", steps=1000)
    seconds = {"square": 0.0, "wide": 0.0}
    for _ in range(200):
        batch = batcher.next_batch()
        took = 2.0 if len(batch) == 4 else 1.0
        batcher.charge(batch, took)
        seconds[str(batch[0].shape)] += took
    assert 3.5 < seconds["square"] / seconds["wide"] < 4.5


def test_a_shape_that_comes_late_has_no_credit_for_its_absence() -> None:
    batcher = Batcher(8, Clock())
    batcher.add(task(0))
    admit(batcher, "square", steps=1000)
    for _ in range(100):
        batcher.charge(batcher.next_batch(), 1.0)
    batcher.add(task(1))
    admit(batcher, "wide", steps=1000)
    turns = []
    for _ in range(10):
        batch = batcher.next_batch()
        batcher.charge(batch, 1.0)
        turns.append(batch[0].shape)
    assert turns.count("wide") == 5


def test_dropping_a_task_takes_all_of_it() -> None:
    batcher = Batcher(2, Clock())
    batcher.add(task(0, 5))
    batcher.add(task(1))
    admit(batcher)
    assert batcher.drop(0)
    assert admit(batcher) == [(1, 0)]
    assert not batcher.drop(0)
    assert [each.key for each in batcher.tasks] == [1]
