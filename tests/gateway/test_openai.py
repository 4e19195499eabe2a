"""OpenAI's images API, with OpenAI's own client."""

import base64
import io
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from PIL import Image

from tests.gateway.conftest import Running

SMALL: dict[str, Any] = {"size": "64x64", "extra_body": {"steps": 10, "seed": 7}}


@pytest.fixture
def client(served: Running) -> Iterator[Any]:
    """Typed by nobody: its overloads do not know of fields of ours."""
    with openai.OpenAI(base_url=f"{served.address}/v1", api_key="none", max_retries=0) as made:
        yield made


def picture(encoded: str | None) -> Image.Image:
    assert encoded is not None
    return Image.open(io.BytesIO(base64.b64decode(encoded, validate=True)))


def test_pictures_in_base64(client: Any) -> None:
    answer = client.images.generate(prompt="a red cat", n=2, **SMALL)
    assert answer.data is not None
    assert [picture(each.b64_json).size for each in answer.data] == [(64, 64), (64, 64)]
    assert answer.data[0].b64_json != answer.data[1].b64_json
    assert (answer.size, answer.output_format) == ("64x64", "png")


def test_addresses_of_pictures(client: Any) -> None:
    answer = client.images.generate(prompt="a red cat", response_format="url", model="dall-e-3", **SMALL)
    assert answer.data is not None
    assert answer.data[0].url is not None
    file = httpx.get(answer.data[0].url, trust_env=False)
    assert (file.status_code, file.headers["content-type"]) == (200, "image/png")


def test_formats(client: Any) -> None:
    answer = client.images.generate(prompt="a red cat", output_format="jpeg", output_compression=50, **SMALL)
    assert answer.data is not None
    assert picture(answer.data[0].b64_json).format == "JPEG"


def test_what_it_looks_like_so_far(client: Any) -> None:
    steps = {"size": "64x64", "extra_body": {"steps": 100}}
    stream = client.images.generate(prompt="a red cat", stream=True, partial_images=2, **steps)
    events = list(stream)
    assert [event.type for event in events] == [
        "image_generation.partial_image", "image_generation.partial_image", "image_generation.completed"
    ]  # fmt: skip
    assert [getattr(event, "partial_image_index", None) for event in events] == [0, 1, None]
    assert [picture(event.b64_json).format for event in events] == ["JPEG", "JPEG", "PNG"]


def test_an_edit_by_a_mask(client: Any) -> None:
    mask = Image.new("RGBA", (64, 64), "black")
    mask.paste((0, 0, 0, 0), (0, 0, 32, 32))
    files = {"image": ("cat.png", png(Image.new("RGB", (64, 64), "red"))), "mask": ("mask.png", png(mask))}
    answer = client.images.edit(prompt="a red cat", size="64x64", extra_body={"steps": "10"}, **files)
    assert answer.data is not None
    drawn = picture(answer.data[0].b64_json)
    assert drawn.getpixel((60, 60)) == (255, 0, 0)
    assert drawn.getpixel((5, 5)) != (255, 0, 0)
    events = list(client.images.edit(prompt="a red cat", size="64x64", stream=True, **files))
    assert events[-1].type == "image_edit.completed"


def test_models(client: Any) -> None:
    [model] = client.models.list().data
    assert model.id == "doodle"
    assert client.models.retrieve("doodle").id == "doodle"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("other")


def test_errors_in_its_form(client: Any) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.images.generate(prompt="a red cat", size="7 by 7")
    assert (refused.value.param, refused.value.code) == ("size", "invalid_request")
    assert refused.value.type == "invalid_request_error"
    for wrong in ({"background": "transparent"}, {"extra_body": {"stepz": 1}}, {"model": "elsewhere"}):
        with pytest.raises(openai.BadRequestError):
            client.images.generate(prompt="a red cat", **{"size": "64x64", **wrong})
    with pytest.raises(openai.BadRequestError, match="transparent"):
        opaque = png(Image.new("RGB", (64, 64)))
        client.images.edit(prompt="a red cat", image=("a.png", opaque), mask=("mask.png", opaque))
    with pytest.raises(openai.InternalServerError, match="not a number"):
        client.images.generate(prompt="not a number", **SMALL)
    with pytest.raises(openai.APIError, match="not a number"):
        list(client.images.generate(prompt="not a number", stream=True, **SMALL))


def test_a_client_that_leaves_cancels_its_job_if_it_asked_for_that(served: Running) -> None:
    body = {"prompt": "a red cat", "size": "64x64", "steps": 150}
    for path, end in (("/v1/images/generations", "done"), ("/v1/images/generations?on_disconnect=cancel", "failed")):
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(served.address + path, json=body, timeout=0.5, trust_env=False)
        job = served.client.get("/jobs").json()["jobs"][0]["id"]
        assert served.events(job)[-1].name == end


def png(made: Image.Image) -> bytes:
    file = io.BytesIO()
    made.save(file, "PNG")
    return file.getvalue()
