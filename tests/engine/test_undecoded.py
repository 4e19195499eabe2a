"""Images that have only to be decoded, and whose jobs end before."""

from collections.abc import Sequence

import pytest

from stablediffusiond.engine.job import Pixels, Sample
from stablediffusiond.errors import JobError
from tests.engine.test_engine import Running, code, task


def test_an_image_whose_job_was_cancelled_meanwhile_is_not_decoded_with_others(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Running(decode_seconds={1: 0.4, 2: 0.5, 4: 1.0})
    finish = made.device.finish

    def cancelling(samples: Sequence[Sample]) -> list[Pixels | JobError]:
        made.engine.cancel(4)
        return finish(samples)

    monkeypatch.setattr(made.device, "finish", cancelling)
    made.engine.pause("until all are here")
    made.thread.start()
    for key in (1, 2, 3, 4):
        made.engine.submit(task(key, steps=1))
    made.engine.resume()
    ended = made.until_end(1, 2, 3, 4)
    made.close()
    assert code(ended[4]) == "cancelled"
    assert made.device.dropped == [4]
    assert [each for each in made.device.order if each != "step"] == ["finish 1, 2", "finish 3"]
