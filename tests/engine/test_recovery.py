"""What fails, fails alone; what does not fit is split: with a device that fails when it is told to."""

import pytest

from stablediffusiond.engine.job import Drawn, Finished
from stablediffusiond.errors import ModelError, OutOfMemory
from tests.engine.test_engine import Running, code, running, task

__all__ = ["running"]


@pytest.mark.parametrize("kind", [ModelError, OutOfMemory])
def test_a_call_that_fails_for_all_is_tried_one_by_one(running: Running, kind: type[ModelError]) -> None:
    running.device.forward_errors[2] = kind("no")
    running.engine.pause("until all are here")
    for key in (1, 2, 3):
        running.engine.submit(task(key))
    running.engine.resume()
    said = running.until_end(1, 2, 3)
    assert isinstance(said[1][-1], Finished)
    assert isinstance(said[3][-1], Finished)
    assert code(said[2]) == kind.code


@pytest.mark.parametrize("where", ["begin_errors", "step_errors", "finish_errors"])
def test_one_bad_job_fails_alone(running: Running, where: str) -> None:
    getattr(running.device, where)[2] = ModelError("no")
    running.engine.pause("until all are here")
    for key in (1, 2, 3):
        running.engine.submit(task(key, count=2))
    running.engine.resume()
    said = running.until_end(1, 2, 3)
    assert code(said[2]) == "model_error"
    assert [type(event) for event in said[1][-3:]] == [Drawn, Drawn, Finished]
    assert [type(event) for event in said[3][-3:]] == [Drawn, Drawn, Finished]


def test_what_does_not_fit_is_split_and_the_cap_learns() -> None:
    running = Running(rows_that_fit=3)
    running.engine.pause("until all are here")
    running.thread.start()
    for key in (1, 2, 3, 4):
        running.engine.submit(task(key, steps=2))
    running.engine.resume()
    said = running.until_end(1, 2, 3, 4)
    assert all(isinstance(events[-1], Finished) for events in said.values())
    # The first call has eight rows and ends in calls of two; from then on one image of two rows steps at a time.
    assert running.device.batches == [[], [], [1, 2, 3, 4], [1], [2], [3], [4]]
    assert set(running.device.rows) == {2}
    running.close()


def test_what_does_not_fit_even_alone_fails_and_the_others_do_not() -> None:
    running = Running(rows_that_fit=1)
    running.thread.start()
    running.engine.submit(task(1, steps=2))
    assert isinstance(running.until_end(1)[1][-1], Finished)
    assert set(running.device.rows) == {1}
    running.device.rows_that_fit = 0
    running.engine.submit(task(2))
    assert code(running.until_end(2)[2]) == "out_of_memory"
    running.close()


def test_one_that_never_fits_leaves_the_others_as_many_rows_as_before(running: Running) -> None:
    running.device.forward_errors[1] = OutOfMemory("no")
    running.engine.submit(task(1))
    assert code(running.until_end(1)[1]) == "out_of_memory"
    running.engine.pause("until all are here")
    for key in (2, 3, 4):
        running.engine.submit(task(key))
    running.engine.resume()
    running.until_end(2, 3, 4)
    assert set(running.device.rows) == {6}


def test_a_picture_that_cannot_fit_is_refused_before_it_begins(running: Running) -> None:
    running.engine.submit(task(1, width=1024, height=1024))
    assert code(running.until_end(1)[1]) == "too_large"
    assert running.device.batches == []
