"""Row counts: found by measuring, overridden by settings, lowered by experience."""

import pytest

from stablediffusiond.engine.capacity import Capacity, best_rows, measure
from stablediffusiond.engine.job import Kind
from stablediffusiond.errors import OutOfMemory

OWN = Kind(512, 512)
#: Seconds by rows, as measured with a small UNet on two CPU cores.
TWO_CORES = {1: 0.027, 2: 0.046, 4: 0.074, 8: 0.107, 16: 0.278}


def test_measuring_ends_where_more_rows_bring_no_more_throughput() -> None:
    assert measure({**TWO_CORES, 32: 0.01}.__getitem__) == TWO_CORES
    assert best_rows(TWO_CORES) == 8


def test_what_is_slow_only_once_does_not_end_the_measuring() -> None:
    asked: list[int] = []

    def seconds(rows: int) -> float:
        asked.append(rows)
        return TWO_CORES[rows] * (3 if rows == 4 and asked.count(4) == 1 else 1)

    assert measure(seconds) == TWO_CORES
    assert asked == [1, 2, 4, 2, 4, 8, 16, 8, 16]


def test_measuring_ends_where_one_call_takes_too_long() -> None:
    assert measure({1: 4.0, 2: 6.0, 4: 0.1}.__getitem__) == {1: 4.0, 2: 6.0}


def test_measuring_ends_where_memory_does() -> None:
    def seconds(rows: int) -> float:
        if rows > 4:
            raise OutOfMemory("no room")
        return 0.1

    assert measure(seconds) == {1: 0.1, 2: 0.1, 4: 0.1}


def test_a_device_that_never_has_enough_is_measured_to_an_end() -> None:
    assert max(measure(lambda _: 0.1)) == 64


def test_of_two_counts_that_are_about_as_good_the_smaller_is_taken() -> None:
    assert best_rows({1: 0.1, 2: 0.15, 4: 0.2, 8: 0.396}) == 4


def test_larger_pictures_have_room_for_fewer_rows() -> None:
    capacity = Capacity(OWN, TWO_CORES)
    assert capacity.images == 4
    assert [capacity.rows_at_most(Kind(side, 512)) for side in (256, 512, 1024, 8192)] == [16, 8, 4, 1]


def test_a_setting_overrides_the_measurement() -> None:
    capacity = Capacity(OWN, TWO_CORES, images=3)
    assert (capacity.images, capacity.rows_at_most(OWN)) == (3, 6)


def test_one_image_under_guidance_always_fits_into_a_call() -> None:
    assert Capacity(OWN, {1: 0.1, 2: 0.3}).rows == 2


def test_what_did_not_fit_is_not_tried_again_for_a_while(caplog: pytest.LogCaptureFixture) -> None:
    now = 1000.0
    capacity = Capacity(OWN, TWO_CORES, clock=lambda: now)
    capacity.learn_too_many(OWN, 8)
    assert capacity.rows_at_most(OWN) == 4
    assert capacity.rows_at_most(Kind(256, 512)) == 16
    assert "512x512: 8 rows do not fit" in caplog.text
    for _ in range(5):
        capacity.learn_too_many(OWN, capacity.rows_at_most(OWN))
    assert capacity.rows_at_most(OWN) == 1
    now += 599
    assert capacity.rows_at_most(OWN) == 1
    now += 1
    assert capacity.rows_at_most(OWN) == 8


def test_others_in_a_call_slow_down_what_is_urgent_only_so_far() -> None:
    capacity = Capacity(OWN, TWO_CORES)
    assert [capacity.rows_at_most(OWN, urgent) for urgent in (1, 2, 3, 4, 8, 20)] == [2, 4, 8, 8, 8, 8]
    assert Capacity(OWN, TWO_CORES, images=1).rows_at_most(OWN, 1) == 2


@pytest.mark.parametrize(
    ("kind", "rows", "seconds"),
    [(OWN, 4, 0.074), (OWN, 3, 0.074), (OWN, 32, 0.556), (Kind(256, 256), 1, 0.027), (Kind(1024, 1024), 1, 0.432)],
    ids=str,
)
def test_what_a_call_takes_is_reckoned_from_what_was_measured(kind: Kind, rows: int, seconds: float) -> None:
    assert Capacity(OWN, TWO_CORES).seconds_of(kind, rows) == pytest.approx(seconds)
