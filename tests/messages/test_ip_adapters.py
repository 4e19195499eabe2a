"""IP-Adapters as people write them: our own words, and A1111's units."""

import base64
import json
from typing import Any

import pytest

from stablediffusiond.errors import InvalidRequest
from stablediffusiond.messages import drawn_request, infotext_fields
from stablediffusiond.messages.ip_adapters import IpAdapterUse
from stablediffusiond.messages.request import Request
from tests.messages.drawn import drawn

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()
BYTES = base64.b64decode(PNG)
STYLE = IpAdapterUse(name="ip-adapter_sd15", image=BYTES, scale=0.6)
#: As the web page sends one.
UNIT = {
    "enabled": True, "module": "ip-adapter-auto", "model": "ip-adapter_sd15 [6a3f6166]", "weight": 0.6, "image": PNG,
    "resize_mode": "Crop and Resize", "low_vram": False, "processor_res": 512, "threshold_a": 0.5, "threshold_b": 0.5,
    "guidance_start": 0.0, "guidance_end": 1.0, "control_mode": "Balanced", "pixel_perfect": False,
}  # fmt: skip
EDGES = {"module": "none", "model": "edges", "image": PNG}


def read(**fields: Any) -> Request:
    return Request.from_fields({"prompt": "a cat", **fields})[0]


@pytest.mark.parametrize(
    "fields",
    [
        {"ip_adapter": [{"name": "ip-adapter_sd15", "image": PNG, "scale": 0.6}]},
        {"ip_adapter": {"model": "models/ip-adapter_sd15.safetensors", "ip_adapter_image": PNG, "weight": "0.6"}},
        {"alwayson_scripts": {"controlnet": {"args": [UNIT]}}},
        {"controlnet_units": [{**UNIT, "module": "ip-adapter_clip_sd15"}]},
        {"alwayson_scripts": {"controlnet": {"args": [UNIT, {**UNIT, "enabled": False}]}}},
    ],
)
def test_it_means_the_same(fields: dict[str, Any]) -> None:
    request = read(**fields)
    assert (request.ip_adapter, request.control) == ((STYLE,), ())


def test_units_are_told_apart() -> None:
    request = read(controlnet_units=[EDGES, UNIT], ip_adapter=[{"name": "other", "image": PNG}])
    assert [use.model for use in request.control] == ["edges"]
    assert [use.name for use in request.ip_adapter] == ["other", "ip-adapter_sd15"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("style", "must be a list like"),
        ([{"image": PNG}], "'name' of 'ip_adapter'"),
        ([{"name": "style", "image": "/etc/passwd"}], "'image' of 'ip_adapter'"),
        ([{"name": "style", "image": PNG, "scale": 11}], "'scale' of 'ip_adapter'"),
        ([{"name": "style", "image": PNG, "colour": 1}], "knows no 'colour'"),
        ([{"name": "style"}], "an IP-Adapter of 'ip_adapter' needs an 'image'"),
        ([{"name": "style", "image": PNG, "end": 0.5}], "'end' of 'ip_adapter' is not done here: 0.5"),
        ([{**UNIT, "module": "ip-adapter_face_id"}], "looks for faces"),
    ],
)
def test_what_cannot_be_is_refused_by_its_name(given: Any, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said) as caught:
        read(ip_adapter=given)
    assert caught.value.field == "ip_adapter"


def test_a_unit_that_cannot_be_is_refused_by_the_name_of_its_script() -> None:
    with pytest.raises(InvalidRequest, match=r"'guidance_end' of 'alwayson_scripts\.controlnet' is not done here"):
        read(alwayson_scripts={"controlnet": {"args": [{**UNIT, "guidance_end": 0.5}]}})


def test_it_goes_over_the_wire_as_it_came() -> None:
    request = read(ip_adapter=[UNIT], image=PNG)
    again, _ = Request.from_fields(json.loads(request.to_json()))
    assert again == request


def test_a_file_says_it() -> None:
    request, facts = drawn(ip_adapter=[UNIT], control=[EDGES])
    text = infotext_fields.write(request, facts)
    assert 'ControlNet 1: "Module: ip-adapter-auto, Model: ip-adapter_sd15, Weight: 0.6"' in text
    said = json.loads(drawn_request.to_json(request, facts))
    assert said["ip_adapter"] == [{"name": "ip-adapter_sd15", "scale": 0.6, "image": drawn_request.hash_of(BYTES)}]
