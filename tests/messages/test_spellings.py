"""Objects inside a request whose fields have several spellings: these may stand beside another, and must not differ."""

import base64
from typing import Any

import pytest

from stablediffusiond.errors import InvalidRequest
from stablediffusiond.messages.request import Request

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()
#: Field -> an object in it, and two spellings of one of the object's fields.
OBJECTS: dict[str, tuple[dict[str, Any], str, str]] = {
    "loras": ({"name": "ink"}, "scale", "weight"),
    "control": ({"model": "outline", "image": PNG}, "scale", "controlnet_conditioning_scale"),
    "ip_adapter": ({"name": "plain", "image": PNG}, "scale", "ip_adapter_scale"),
    "hires": ({"steps": 5}, "scale", "hr_scale"),
}


def read(field: str, *values: object) -> Any:
    fields, *spellings = OBJECTS[field]
    one = {**fields, **dict(zip(spellings, values, strict=False))}
    request, _ = Request.from_fields({"prompt": "a cat", field: one if field == "hires" else [one]})
    found = getattr(request, field)
    return found if field == "hires" else found[0]


@pytest.mark.parametrize("field", OBJECTS)
def test_two_that_agree_are_one(field: str) -> None:
    assert read(field, 1.5, 1.5) == read(field, 1.5)
    assert read(field, 1.5, "1.5").scale == 1.5


@pytest.mark.parametrize("field", OBJECTS)
@pytest.mark.parametrize("values", [(1.5, 2), (2, 1.5)])
def test_two_that_differ_are_refused_by_both_names(field: str, values: tuple[float, float]) -> None:
    _, one, other = OBJECTS[field]
    with pytest.raises(InvalidRequest, match=f"'{one}' and '{other}' of '{field}' mean the same and differ") as caught:
        read(field, *values)
    assert caught.value.field == field


def test_what_is_wrong_is_said_in_the_words_of_the_request_s_own_fields() -> None:
    for field, most in (("control", 10), ("ip_adapter", 10), ("hires", 8)):
        with pytest.raises(InvalidRequest, match=f"^'scale' of '{field}' must be less than or equal to {most}, not 99$"):
            read(field, 99)
    with pytest.raises(InvalidRequest, match=r"^'quality' must be less than or equal to 100, not 101$"):
        Request.from_fields({"prompt": "", "quality": 101})


@pytest.mark.parametrize("field", OBJECTS)
def test_what_is_no_number_is_said_of_the_field_and_the_object(field: str) -> None:
    with pytest.raises(InvalidRequest, match=r"number|scales") as caught:
        read(field, "much")
    assert caught.value.field == field
    assert repr(field) in str(caught.value)
