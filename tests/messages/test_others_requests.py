"""Requests as users of other programs write them: the table in docs/protocol.md, row by row."""

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest

from stablediffusiond.errors import InvalidRequest
from stablediffusiond.messages.body import parse
from stablediffusiond.messages.request import Request

PROTOCOL = Path(__file__).parents[2] / "docs/protocol.md"
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\nnot really").decode()
HEADING = "### Requests as others write them"


def rows() -> list[tuple[str, str, str]]:
    section = PROTOCOL.read_text("utf-8").split(HEADING)[1].split("\n###")[0]
    return re.findall(r"^\| ([^|`]+(?:`[^`]+`)?) \| `(.+)` \| `(.+)` \|$", section, re.MULTILINE)


def with_pictures(text: str) -> dict[str, Any]:
    return parse(text.replace("PICTURE", PNG).encode())


def test_the_table_has_every_kind_of_program() -> None:
    names = " ".join(name for name, _, _ in rows())
    assert len(rows()) >= 15
    for program in ("A1111", "ComfyUI", "AI Horde", "diffusers", "first stablediffusiond"):
        assert program in names


@pytest.mark.parametrize(("name", "body", "means"), rows(), ids=[name for name, _, _ in rows()])
def test_a_request_as_another_program_writes_it(name: str, body: str, means: str) -> None:
    made, warnings = Request.from_fields({**with_pictures(body), "id": "x"})
    meant, _ = Request.from_fields({**with_pictures(means), "id": "x"})
    assert made == meant
    assert len(warnings) <= 3
    assert set(json.loads(means)) <= set(Request.model_fields), "in our own words"
    other, _ = Request.from_fields({"prompt": "something else", "id": "x"})
    assert made != other


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"post_processing": ["RealESRGAN_x4plus"]}, "post_processing"),
        ({"tis": [{"name": "7808"}]}, "tis"),
        ({"transparent": True}, "transparent"),
        ({"control_type": "hed"}, "control"),
        ({"sampler_name": "k_unknown"}, "sampler_name"),
    ],
)
def test_what_horde_asks_for_and_is_not_done_is_refused(asked: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        Request.from_fields({"prompt": "a cat", "source_image": PNG, "source_processing": "img2img", "params": asked})
    assert caught.value.field == field


def test_horde_control_pictures() -> None:
    asked = {"prompt": "a cat", "source_image": PNG, "source_processing": "img2img"}
    made, _ = Request.from_fields({**asked, "params": {"control_type": "canny"}})
    assert [(use.model, use.preprocessor) for use in made.control] == [("canny", "canny")]
    made, _ = Request.from_fields({**asked, "params": {"control_type": "depth", "image_is_control": True}})
    assert [(use.model, use.preprocessor) for use in made.control] == [("depth", None)]


def test_small_pictures_of_horde_have_no_second_pass() -> None:
    made, _ = Request.from_fields({"prompt": "a cat", "params": {"width": 512, "height": 768, "hires_fix": True}})
    assert (made.width, made.height, made.hires) == (512, 768, None)


def test_what_is_no_object_is_refused_by_its_name() -> None:
    with pytest.raises(InvalidRequest) as caught:
        Request.from_fields({"prompt": "a cat", "params": [1]})
    assert caught.value.field == "params"
