"""A VAE as people name one, and as a picture's file does."""

from typing import Any

import pytest

from stablediffusiond.errors import InvalidRequest
from stablediffusiond.messages import drawn_request, infotext_fields
from stablediffusiond.messages.request import Request
from tests.messages.drawn import drawn

FILE = "vae/vae-ft-mse-840000-ema-pruned.safetensors"
NAME = "vae-ft-mse-840000-ema-pruned"


def read(**fields: Any) -> str | None:
    return Request.from_fields({"prompt": "a cat", **fields})[0].vae


@pytest.mark.parametrize(
    "fields", [{"vae": NAME}, {"vae": FILE}, {"sd_vae": FILE}, {"override_settings": {"sd_vae": FILE}}]
)
def test_it_means_the_same(fields: dict[str, Any]) -> None:
    assert read(**fields) == NAME


@pytest.mark.parametrize("name", ["Automatic", "automatic", "None", "", None])
def test_it_means_the_models_own(name: str | None) -> None:
    assert read(vae=name) is None
    assert read(sd_vae=name) is None
    assert read(override_settings={"sd_vae": name}) is None


@pytest.mark.parametrize("name", [True, ["a"], "x" * 201, "/"])
def test_what_is_no_name_is_refused(name: object) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read(vae=name)
    assert caught.value.field == "vae"


def test_a_file_says_it_and_is_read_back() -> None:
    request, facts = drawn(vae=FILE)
    text = infotext_fields.write(request, facts)
    assert f", Model: doodle, VAE: {NAME}, RNG: CPU" in text
    assert Request.from_fields(infotext_fields.read(text).fields)[0].vae == NAME
    assert drawn_request.from_json(drawn_request.to_json(request, facts)).fields["vae"] == NAME
