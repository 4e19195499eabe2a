"""Everything that is sent is answered, at a bounded price.

``FUZZ_EXAMPLES=15000 ./install.sh test tests/fuzz --timeout 0 -s`` does the same for longer: 210,000 cases.
``python -m tests.fuzz`` is led by what it reaches in the code.
"""

import gc
import json
import os
import resource
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stablediffusiond.messages.a1111 import FIELDS as A1111_FIELDS
from stablediffusiond.messages.aliases import ALIASES, IGNORED, UNFOLDED
from stablediffusiond.messages.request import Request
from tests.fuzz import seeds, targets

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "100"))
KNOWN = [(target, name) for target in targets.TARGETS for name in seeds.of(target)]
SPELLINGS = {alias for each in ALIASES.values() for alias in each}
FIELDS = sorted({*Request.model_fields, *SPELLINGS, *UNFOLDED, *IGNORED, *A1111_FIELDS})

text = st.text(st.characters(), max_size=30)
numbers = st.integers() | st.floats() | st.integers(-(10**300), 10**300) | st.sampled_from([0, -1, 64, 2**32, 2**63])
values = st.recursive(
    st.none() | st.booleans() | numbers | text | numbers.map(str),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=6,
)
names = st.sampled_from(FIELDS) | text
bodies = st.dictionaries(names, values, max_size=8)


prices: list[tuple[float, float]] = []  #: seconds and megabytes, of each case


@pytest.fixture(scope="module", autouse=True)
def _price_list() -> Iterator[None]:
    yield
    seconds, megabytes = (max(price) for price in zip((0.0, 0.0), *prices, strict=True))
    print(f"\n{len(prices)} cases; the longest took {seconds:.3f} s, the largest {megabytes:.1f} MB")  # noqa: T201 (-s shows it)


#: What a case may cost, in megabytes more than ever before: a picture of 65 million pixels, or anything else.
MOST_MEGABYTES = {"image": 700, "like": 700}


def cheaply(target: str, data: bytes) -> None:
    """In less than a second (a picture: two) and with not much more memory than ever before."""
    before, began = resource.getrusage(resource.RUSAGE_SELF), time.process_time()
    gc.disable()  # it would charge one case for what all the others before it have left
    try:
        targets.TARGETS[target](data)
    finally:
        seconds = time.process_time() - began
        gc.enable()
    megabytes = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before.ru_maxrss) / 1024
    prices.append((seconds, megabytes))
    assert seconds < (2 if target in {"image", "like"} else 1)
    assert megabytes < MOST_MEGABYTES.get(target, 100)


@pytest.mark.parametrize(("target", "name"), KNOWN, ids=lambda value: value)
def test_what_is_known_to_be_bad_is_answered_cheaply(target: str, name: str) -> None:
    cheaply(target, seeds.of(target)[name])


@settings(max_examples=EXAMPLES)
@given(bodies)
def test_any_fields_of_any_type(body: dict[str, object]) -> None:
    cheaply("request", _json(body))


@settings(max_examples=EXAMPLES)
@given(st.sampled_from(FIELDS), values)
def test_each_field_of_any_type_beside_a_prompt(name: str, value: object) -> None:
    cheaply("request", _json({"prompt": "cat", name: value}))


def mutated(target: str) -> "st.SearchStrategy[bytes]":
    """Seeds with pieces cut out, doubled and overwritten."""
    small = [data for data in seeds.of(target).values() if len(data) < 5_000]

    @st.composite
    def make(draw: Callable[..., Any]) -> bytes:
        data = draw(st.sampled_from(small))
        assert isinstance(data, bytes)
        for _ in range(3):
            at, to = draw(st.tuples(*[st.integers(0, len(data))] * 2).map(sorted))
            piece = draw(st.binary(max_size=8) | st.just(data[at:to][:200]))
            assert isinstance(piece, bytes)
            data = data[:at] + piece + data[to if draw(st.booleans()) else at :]
        return data

    return make()


@pytest.mark.parametrize("target", list(targets.TARGETS))
def test_seeds_cut_doubled_and_overwritten(target: str) -> None:
    @settings(max_examples=EXAMPLES)
    @given(mutated(target))
    def run(data: bytes) -> None:
        cheaply(target, data)

    run()


@pytest.mark.parametrize("target", list(targets.TARGETS))
def test_any_bytes(target: str) -> None:
    @settings(max_examples=EXAMPLES)
    @given(st.binary(max_size=200))
    def run(data: bytes) -> None:
        cheaply(target, data)

    run()


def _json(value: object) -> bytes:
    return json.dumps(value).encode()
