import json

import pytest

from stablediffusiond.errors import InvalidRequest
from stablediffusiond.messages.body import parse
from stablediffusiond.messages.replies import ImageFacts
from stablediffusiond.messages.request import Request

LARGEST = 2**64 - 1


def seed_of(value: object, job_id: str = "job") -> int:
    return Request.from_fields({"prompt": "cat", "id": job_id, "seed": value})[0].seed


@pytest.mark.parametrize(
    ("written", "seed"),
    [
        (0, 0), (2**32, 2**32), (2**53 + 1, 2**53 + 1), (2**63, 2**63), (LARGEST, LARGEST), (1e3, 1000), (42.0, 42),
        ("42", 42), (" 42 ", 42), ("1e3", 1000), ("42.0", 42), (str(LARGEST), LARGEST), ("18446744073709551615.0", LARGEST),
    ],
)  # fmt: skip
def test_64_bits_as_number_or_text(written: object, seed: int) -> None:
    assert seed_of(written) == seed
    assert seed_of(json.loads(json.dumps(written))) == seed


@pytest.mark.parametrize("written", [18446744073709552000, 1.8446744073709552e19, "18446744073709552000", 2.0**64])
def test_what_javascript_makes_of_the_largest_seeds_is_the_largest(written: object) -> None:
    assert seed_of(written) == LARGEST


@pytest.mark.parametrize("any_seed", [None, -1, "-1", -1.0, "-1.0", "", " ", "random", "Random", "none", "null"])
def test_what_tools_send_for_any_seed_gives_a_job_always_the_same(any_seed: object) -> None:
    assert seed_of(any_seed) == Request.from_fields({"prompt": "cat", "id": "job"})[0].seed
    assert seed_of(any_seed) != seed_of(any_seed, "another")
    assert seed_of(any_seed) < 2**32, "every language can read it"


@pytest.mark.parametrize(
    "written",
    [
        -2, 2**64 + 1000, 2**65, -(2**63), 1.5, "1.5", 1e20, 1e300, "1e999999999", "1e-999999999", float("nan"), float("inf"),
        "NaN", "-Infinity", "cat", "0x2a", "9" * 4000, 10**4000, 10**5000, True, [42], {"a": 1}, "1" * 41,
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_what_is_no_seed_is_refused(written: object) -> None:
    with pytest.raises(InvalidRequest) as caught:
        seed_of(written)
    assert caught.value.field == "seed"
    assert len(str(caught.value)) < 300


def test_a_body_may_have_the_largest() -> None:
    body = b'{"prompt": "cat", "seed": 18446744073709551615}'
    assert Request.from_fields(parse(body))[0].seed == LARGEST


def test_image_seeds_count_up_and_begin_again() -> None:
    made = Request.from_fields({"prompt": "cat", "seed": LARGEST, "count": 2})[0]
    assert [made.image_seed(0), made.image_seed(1)] == [LARGEST, 0]


def facts(seed: object) -> ImageFacts:
    return ImageFacts.model_validate(
        {
            "id": "a", "index": 0, "count": 1, "type": "txt2img", "prompt": "cat", "negative_prompt": "", "seed": seed,
            "width": 64, "height": 64, "steps": 1, "guidance_scale": 7.5, "sampler": "DDIM", "eta": 0, "model": "doodle",
        }
    )  # fmt: skip


@pytest.mark.parametrize("seed", [0, 42, 2**53 - 1])
def test_a_seed_that_every_language_can_read_is_a_number(seed: int) -> None:
    assert facts(seed).model_dump()["seed"] == seed
    assert json.loads(facts(seed).model_dump_json())["seed"] == seed


@pytest.mark.parametrize("seed", [2**53, 2**63 - 1, 2**63, LARGEST])
def test_a_seed_that_javascript_would_round_is_text(seed: int) -> None:
    assert facts(seed).model_dump()["seed"] == str(seed)
    assert json.loads(facts(seed).model_dump_json())["seed"] == str(seed)
    assert facts(str(seed)).seed == seed
    assert seed_of(str(seed)) == seed
