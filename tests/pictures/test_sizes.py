import pytest
from hypothesis import given
from hypothesis import strategies as st

from stablediffusiond.pictures.sizes import LARGEST, MULTIPLE, SMALLEST, in_proportion

sides = st.integers(1, 30_000)
own_sides = st.sampled_from([(128, 128), (512, 512), (768, 768), (1024, 1024), (512, 768)])


@pytest.mark.parametrize(
    ("picture", "own", "size"),
    [
        ((4000, 3000), (512, 512), (592, 440)),
        ((3000, 4000), (512, 512), (440, 592)),
        ((6000, 4000), (512, 512), (624, 416)),
        ((1920, 1080), (1024, 1024), (1360, 768)),
        ((512, 512), (512, 512), (512, 512)),
        ((1000, 1000), (512, 512), (512, 512)),
        ((16, 9), (512, 512), (680, 384)),
        ((640, 480), (128, 128), (144, 112)),
    ],
)
def test_a_photograph_keeps_its_proportions(
    picture: tuple[int, int], own: tuple[int, int], size: tuple[int, int]
) -> None:
    assert in_proportion(picture, own) == size


def test_one_side_makes_the_other() -> None:
    assert in_proportion((4000, 3000), (512, 512), width=640) == (640, 480)
    assert in_proportion((4000, 3000), (512, 512), height=480) == (640, 480)
    assert in_proportion((3000, 4000), (512, 512), width=512) == (512, 680)


def test_both_sides_are_both_sides() -> None:
    assert in_proportion((4000, 3000), (512, 512), 512, 512) == (512, 512)


@given(st.tuples(sides, sides), own_sides)
def test_any_picture_has_a_size_that_can_be_drawn(picture: tuple[int, int], own: tuple[int, int]) -> None:
    width, height = in_proportion(picture, own)
    assert width % MULTIPLE == height % MULTIPLE == 0
    assert min(width, height) >= SMALLEST
    assert width * height <= own[0] * own[1]
    assert width * height > 0.8 * own[0] * own[1]


@given(st.tuples(sides, sides), own_sides)
def test_proportions_are_kept_as_far_as_multiples_go(picture: tuple[int, int], own: tuple[int, int]) -> None:
    width, height = in_proportion(picture, own)
    if min(width, height) > SMALLEST:
        loss = MULTIPLE / min(width, height)
        assert width / height == pytest.approx(picture[0] / picture[1], rel=2 * loss)


@given(st.tuples(sides, sides), own_sides, st.integers(8, 2048).map(lambda n: 8 * n))
def test_the_side_that_follows_can_be_drawn(picture: tuple[int, int], own: tuple[int, int], side: int) -> None:
    for width, height in (in_proportion(picture, own, width=side), in_proportion(picture, own, height=side)):
        assert side in {width, height}
        for each in (width, height):
            assert each % MULTIPLE == 0
            assert SMALLEST <= each <= LARGEST
