"""The loop on its own thread, with a device that counts."""

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import pytest

from stablediffusiond.engine.capacity import warm_up
from stablediffusiond.engine.engine import Engine
from stablediffusiond.engine.job import Begun, Drawn, Ending, Event, Failed, Finished, Sample, Stepped, Task
from stablediffusiond.errors import JobError, ModelError
from stablediffusiond.messages.complete_request import CompleteRequest
from tests.engine.fake import FakeDenoiser


def task(key: int, **fields: object) -> Task:
    return Task(key, CompleteRequest.model_validate({"id": str(key), "prompt": "x", "steps": 3, **fields}))


class Running:
    """An engine and what it has said."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        rows_that_fit: int = 1000,
        decode_seconds: dict[int, float] | None = None,
    ) -> None:
        self.device = FakeDenoiser(rows_that_fit)
        self.device.decode_seconds = decode_seconds or self.device.decode_seconds
        self.events: queue.Queue[Event] = queue.Queue()
        self.died: list[BaseException] = []
        self.engine = Engine(
            self.device, warm_up(self.device, 4), progress_interval_seconds=1.0, on_event=self.events.put, clock=clock
        )
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            self.engine.run()
        except RuntimeError as error:
            self.died.append(error)

    def until_end(self, *keys: int) -> dict[int, list[Event]]:
        """What is said of the tasks ``keys`` until each has ended."""
        said: dict[int, list[Event]] = {key: [] for key in keys}
        open_keys = set(keys)
        while open_keys:
            event = self.events.get(timeout=20)
            said[event.task.key].append(event)
            if isinstance(event, Finished | Failed):
                open_keys.remove(event.task.key)
        return said

    def close(self) -> None:
        self.device.go.set()
        self.engine.stop()
        self.thread.join(20)
        assert not self.thread.is_alive()


@pytest.fixture
def running() -> Iterator[Running]:
    made = Running()
    made.thread.start()
    yield made
    made.close()


def code(events: list[Event]) -> str:
    assert isinstance(events[-1], Failed)
    return events[-1].error.code


def test_a_task_begins_is_drawn_and_finishes(running: Running) -> None:
    running.engine.submit(task(1, count=2))
    events = running.until_end(1)[1]
    assert [type(event) for event in events] == [Begun, Ending, Ending, Drawn, Drawn, Finished]
    assert [event.pixels[0, 0, 0] for event in events if isinstance(event, Drawn)] == [0, 1]


def test_jobs_share_a_call_and_join_between_two_steps(running: Running) -> None:
    running.device.go.clear()
    running.engine.submit(task(1, steps=5))
    assert running.device.stepping.wait(20)
    running.engine.submit(task(2, steps=2))
    running.device.go.set()
    running.until_end(1, 2)
    assert running.device.batches == [[1], [1, 2], [1, 2], [1], [1]]


def test_a_running_task_is_cancelled_at_its_next_step(running: Running) -> None:
    running.device.go.clear()
    running.engine.submit(task(1, steps=100))
    assert running.device.stepping.wait(20)
    running.engine.cancel(1)
    running.device.go.set()
    assert code(running.until_end(1)[1]) == "cancelled"
    assert running.device.batches == [[1]]


def test_a_waiting_task_is_cancelled(running: Running) -> None:
    running.engine.pause("test")
    running.engine.submit(task(1))
    running.engine.cancel(1)
    assert code(running.until_end(1)[1]) == "cancelled"
    running.engine.resume()


def test_cancelling_what_is_not_there_does_nothing(running: Running) -> None:
    running.engine.cancel(77)
    running.engine.submit(task(1))
    assert isinstance(running.until_end(1)[1][-1], Finished)


def test_a_deadline_ends_a_task_between_two_steps(running: Running) -> None:
    late = Task(1, CompleteRequest(id="1", prompt="x"), deadline=time.monotonic() - 1)
    running.engine.submit(late)
    assert code(running.until_end(1)[1]) == "expired"
    assert running.device.batches == []


def test_nothing_steps_while_the_engine_is_paused(running: Running) -> None:
    running.engine.pause("the broker is full")
    running.engine.submit(task(1))
    assert not running.device.stepping.wait(0.2)
    assert running.engine.healthy
    running.engine.resume()
    assert isinstance(running.until_end(1)[1][-1], Finished)


def test_progress_is_said_at_most_once_an_interval() -> None:
    ticks = iter(range(10_000))
    running = Running(clock=lambda: next(ticks) * 0.05)
    running.thread.start()
    running.engine.submit(task(1, steps=40, count=2))
    events = running.until_end(1)[1]
    running.close()
    said = [(event.step, event.steps) for event in events if isinstance(event, Stepped)]
    assert 2 <= len(said) < 40
    assert said == sorted(said)
    assert {steps for _, steps in said} == {80}


@pytest.mark.parametrize(
    ("step_seconds", "steps_before"),
    [pytest.param(1.0, 9, id="its last step"), pytest.param(0.006, 7, id="the last steps, where they are short")],
)
def test_an_image_is_reported_once_as_ending_before_its_last_step(step_seconds: float, steps_before: int) -> None:
    now = [0.0]
    running = Running(clock=lambda: now[0])
    reported: list[int] = []
    step = running.device.step

    def timed_step(samples: Sequence[Sample], rows_at_once: int) -> dict[int, JobError]:
        now[0] += step_seconds
        return step(samples, rows_at_once)

    def on_event(event: Event) -> None:
        if isinstance(event, Ending):
            reported.append(len(running.device.batches))
        running.events.put(event)

    running.device.step = timed_step  # type: ignore[method-assign]
    running.engine._drawing._on_event = on_event
    running.thread.start()
    running.engine.submit(task(1, steps=10, count=6))
    running.until_end(1)
    running.close()
    assert reported == [steps_before] * 4 + [10 + steps_before] * 2, "four images step together"


def test_an_error_that_is_no_jobs_ends_the_loop() -> None:
    running = Running()
    running.device.begin_errors[1] = RuntimeError("a bug")
    running.thread.start()
    running.engine.submit(task(1))
    running.thread.join(20)
    assert [str(error) for error in running.died] == ["a bug"]


def test_a_device_that_does_not_answer_is_not_healthy() -> None:
    now = [0.0]
    running = Running(clock=lambda: now[0])
    running.thread.start()
    running.device.go.clear()
    running.engine.submit(task(1))
    assert running.device.stepping.wait(20)
    assert running.engine.healthy
    now[0] = 1000.0
    assert not running.engine.healthy
    running.close()


def test_a_slow_device_with_a_large_picture_is_not_hung() -> None:
    now = [0.0]
    running = Running(clock=lambda: now[0])
    vars(running.engine._drawing._capacity)["table"] = {1: 10.0, 2: 20.0}
    running.thread.start()
    running.device.go.clear()
    running.engine.submit(task(1))
    assert running.device.stepping.wait(20)
    now[0] = 300.0
    assert running.engine.healthy
    now[0] = 1000.0
    assert not running.engine.healthy
    running.close()


def test_pictures_are_decoded_one_at_a_time_between_the_steps_of_others(running: Running) -> None:
    running.engine.pause("until all are here")
    for key in (1, 2, 3):
        running.engine.submit(task(key, steps=1))
    running.engine.submit(task(4, steps=6))
    running.engine.resume()
    running.until_end(1, 2, 3, 4)
    assert running.device.order == ["step", "finish 1", "step", "finish 2", "step", "finish 3"] + ["step"] * 3 + [
        "finish 4"
    ]


@pytest.mark.parametrize(
    ("decode_seconds", "decoded"),
    [
        ({1: 0.4, 2: 0.5, 4: 0.6, 8: 1.2}, ["1, 2, 3, 4"]),
        ({1: 0.4, 2: 0.5, 4: 1.0}, ["1, 2", "3, 4"]),
        ({1: 0.4, 2: 0.8}, ["1", "2", "3", "4"]),
    ],
)
def test_pictures_that_are_finished_together_are_decoded_together_where_that_is_faster(
    decode_seconds: dict[int, float], decoded: list[str]
) -> None:
    made = Running(decode_seconds=decode_seconds)
    made.engine.pause("until all are here")
    made.thread.start()
    for key in (1, 2, 3, 4):
        made.engine.submit(task(key, steps=1))
    made.engine.resume()
    made.until_end(1, 2, 3, 4)
    made.close()
    assert [each for each in made.device.order if each != "step"] == [f"finish {keys}" for keys in decoded]


def test_one_that_cannot_be_decoded_costs_the_others_nothing() -> None:
    made = Running(decode_seconds={1: 0.4, 2: 0.4, 4: 0.4, 8: 4.0})
    made.device.finish_errors[2] = ModelError("no decoder takes this")
    made.engine.pause("until all are here")
    made.thread.start()
    for key in (1, 2, 3):
        made.engine.submit(task(key, steps=1))
    made.engine.resume()
    ended = made.until_end(1, 2, 3)
    made.close()
    assert made.device.order[-1] == "finish 1, 2, 3"
    assert code(ended[2]) == "model_error"
    assert isinstance(ended[1][-1], Finished)
    assert isinstance(ended[3][-1], Finished)


def test_a_high_job_goes_before_a_low_one_at_the_next_step(running: Running) -> None:
    running.device.go.clear()
    running.engine.pause("until all are here")
    for key in range(1, 6):
        running.engine.submit(task(key, steps=3, priority="low"))
    running.engine.resume()
    assert running.device.stepping.wait(20)
    running.engine.submit(task(9, steps=2, priority="high"))
    running.device.go.set()
    running.until_end(1, 2, 3, 4, 5, 9)
    assert running.device.batches[:4] == [[1, 2, 3, 4], [9, 1, 2, 3], [9, 1, 2, 3], [4, 5]]
