"""How many pictures are decoded at once: what is faster, and keeps nobody waiting."""

import pytest

from stablediffusiond.engine.decode_capacity import DecodeCapacity
from stablediffusiond.engine.job import Kind

OWN = Kind(512, 512)
#: Four at once are as fast as four alone in half the time; eight bring nothing more.
GPU = {1: 0.030, 2: 0.040, 4: 0.060, 8: 0.120}


@pytest.mark.parametrize(
    ("table", "most"), [(GPU, 4), ({1: 0.03, 2: 0.06}, 1), ({1: 0.03, 2: 0.059}, 1), ({}, 1), ({1: 1.0}, 1)]
)
def test_as_many_as_is_faster(table: dict[int, float], most: int) -> None:
    assert DecodeCapacity(OWN, table).images_at_most(OWN, None) == most


@pytest.mark.parametrize(("step_seconds", "most"), [(0.1, 4), (0.05, 2), (0.035, 1), (0.001, 1)])
def test_who_waits_for_a_step_waits_no_longer_for_several_pictures(step_seconds: float, most: int) -> None:
    assert DecodeCapacity(OWN, GPU).images_at_most(OWN, step_seconds) == most


@pytest.mark.parametrize(("kind", "most"), [(Kind(512, 1024), 2), (Kind(1024, 1024), 1), (Kind(256, 256), 4)])
def test_larger_pictures_are_fewer(kind: Kind, most: int) -> None:
    assert DecodeCapacity(OWN, GPU).images_at_most(kind, None) == most
