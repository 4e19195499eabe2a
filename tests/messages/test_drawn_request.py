"""Our own request in a picture's file."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stablediffusiond.errors import InvalidRequest
from stablediffusiond.messages import drawn_request
from stablediffusiond.messages.request import Request
from tests.messages.drawn import drawn

PNG = b"\x89PNG\r\n\x1a\n"


def written(**fields: object) -> dict[str, object]:
    made: dict[str, object] = json.loads(drawn_request.to_json(*drawn(**fields)))  # type: ignore[arg-type]
    return made


def test_it_has_what_the_picture_needs_and_nothing_of_the_job() -> None:
    assert written(count=3, index=2, priority="high", deadline_seconds=60, preview_every=5, id="other") == {
        "prompt": "a red cat", "seed": 44, "width": 128, "height": 64, "steps": 20, "guidance_scale": 7.5,
        "model": "doodle",
    }  # fmt: skip


def test_a_variation_has_its_own_subseed() -> None:
    made = written(subseed=7, subseed_strength=0.5, count=2, index=1)
    assert (made["seed"], made["subseed"], made["subseed_strength"]) == (42, 8, 0.5)


def test_pictures_are_there_by_their_hash() -> None:
    made = written(image=PNG, mask=PNG)
    assert made["image"] == made["mask"] == drawn_request.hash_of(PNG)
    assert made["type"] == "inpaint"


@given(
    prompt=st.text(st.characters(codec="utf-8"), max_size=50),
    negative_prompt=st.text(st.characters(codec="utf-8"), max_size=50),
    prompt_syntax=st.sampled_from(["a1111", "plain"]),
    seed=st.integers(0, 2**64 - 1),
    steps=st.integers(1, 1000),
    guidance_scale=st.floats(0, 100),
    sampler=st.sampled_from(["k_euler_a", "DPM++ 2M Karras"]),
    width=st.integers(8, 2000).map(lambda each: 8 * each),
    height=st.integers(8, 2000).map(lambda each: 8 * each),
    clip_skip=st.integers(1, 12) | st.none(),
    eta=st.floats(0, 1),
    strength=st.floats(0.001, 1),
    image=st.sampled_from([PNG, None]),
    picture_format=st.sampled_from(["png", "jpeg", "webp"]),
    quality=st.integers(1, 100) | st.none(),
    loras=st.lists(st.fixed_dictionaries({"name": st.just("ink"), "scale": st.floats(-10, 10)}), max_size=2),
)
def test_every_field_comes_back_exactly(picture_format: str, **fields: object) -> None:
    fields |= {"format": picture_format, "id": "mine", "model": "doodle"}
    try:
        before = Request.from_fields(fields)[0]
    except InvalidRequest:
        return  # a prompt that asks for what is not done
    said = drawn_request.from_json(drawn_request.to_json(*drawn(**fields)))  # type: ignore[arg-type]
    assert not said.not_taken
    images = {name: getattr(before, name) for name in said.hashes}
    assert Request.from_fields({**said.fields, **images, "id": "mine"})[0] == before


def test_every_field_of_a_request_is_carried_or_is_the_jobs() -> None:
    """Who adds a field chooses: a file without it would draw another picture."""
    carried = drawn_request._TAKEN
    assert {*carried, *drawn_request._OF_THE_JOB, *drawn_request.PICTURES, "type"} == {*Request.model_fields}


def test_what_only_another_version_knows_is_named() -> None:
    said = drawn_request.from_json('{"prompt": "cat", "id": "x", "colour": "red", "priority": "high"}')
    assert said.fields == {"prompt": "cat"}
    assert said.not_taken == ["'id'", "'colour'", "'priority'"]


@pytest.mark.parametrize("text", ["", "cat", "[]", "{", '{"a": ' * 10_000, '{"a": 1, "a": 2}', "\ud800"])
def test_what_is_no_request_is_an_error(text: str) -> None:
    with pytest.raises(InvalidRequest, match="cannot be read"):
        drawn_request.from_json(text)


def test_a_model_is_called_by_its_name_alone() -> None:
    assert written(model="/srv/models/x.v1.safetensors")["model"] == "x.v1"


def test_controlnets_are_there_with_the_hash_of_their_images() -> None:
    control: list[object] = [{"model": "canny", "image": PNG, "scale": 0.5}, {"model": "depth", "end": 0.5}]
    made = written(image=PNG, control=control)
    hashed = {"model": "canny", "image": drawn_request.hash_of(PNG), "scale": 0.5}
    assert made["control"] == [hashed, {"model": "depth", "end": 0.5}]
