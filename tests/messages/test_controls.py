"""ControlNets as people write them: our own words, A1111's units, and plug-ins' older ones."""

import base64
import json
from typing import Any

import pytest

from stablediffusiond.errors import InvalidRequest
from stablediffusiond.messages.controls import ControlUse
from stablediffusiond.messages.request import Request

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()
BYTES = base64.b64decode(PNG)
EDGES = ControlUse(model="control_v11p_sd15_canny", image=BYTES, scale=0.8, start=0.1, end=0.9)
#: As webuiapi 0.9.17 and the web page send one.
UNIT = {
    "enabled": True, "module": "none", "model": "control_v11p_sd15_canny [d14c016b]", "weight": 0.8, "image": PNG,
    "resize_mode": "Crop and Resize", "low_vram": False, "processor_res": 512, "threshold_a": 64, "threshold_b": 64,
    "guidance_start": 0.1, "guidance_end": 0.9, "control_mode": "Balanced", "pixel_perfect": False,
}  # fmt: skip
OFF = {"enabled": False, "module": "canny", "model": "x", "image": PNG}


def read(**fields: Any) -> tuple[ControlUse, ...]:
    request, _ = Request.from_fields({"prompt": "a cat", **fields})
    return request.control


@pytest.mark.parametrize(
    "fields",
    [
        {"control": [{"model": "control_v11p_sd15_canny", "image": PNG, "scale": 0.8, "start": 0.1, "end": 0.9}]},
        {"control": {"name": "control_v11p_sd15_canny.pth", "image": PNG, "weight": "0.8", "start": 0.1, "end": 0.9}},
        {"alwayson_scripts": {"controlnet": {"args": [UNIT, OFF]}}},
        {"alwayson_scripts": {"ControlNet": {"args": [UNIT]}, "Seed": {"args": [True]}}},
        {"controlnet_units": [{**UNIT, "image": None, "input_image": PNG}]},
        {"controlnet_units": [{**UNIT, "image": {"image": PNG, "mask": ""}}]},
    ],
)
def test_it_means_the_same(fields: dict[str, Any]) -> None:
    assert read(**fields) == (EDGES,)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"control": []},
        {"alwayson_scripts": {"controlnet": {"args": [OFF, {"enabled": True, "module": "none", "model": "None"}]}}},
        {"alwayson_scripts": {"controlnet": {"args": []}}},
        {"controlnet_units": [OFF]},
    ],
)
def test_it_asks_for_nothing(fields: dict[str, Any]) -> None:
    assert read(**fields) == ()


@pytest.mark.parametrize(
    ("control", "said"),
    [
        ("edges", "must be a list like"),
        ([{"image": PNG}], "'model' of 'control'"),
        ([{"model": "edges", "image": "/etc/passwd"}], "'image' of 'control'"),
        ([{"model": "edges", "image": PNG, "scale": "much"}], "'scale' of 'control'"),
        ([{"model": "edges", "image": PNG, "start": 0.5, "end": 0.5}], "ends before it begins"),
        ([{"model": "edges", "image": PNG, "colour": 1}], "knows no 'colour'"),
        ([{**UNIT, "control_mode": "ControlNet is more important"}], "'control_mode' of 'control' is not done here"),
        ([{**UNIT, "module": "openpose_full"}], "'control': the preprocessor 'openpose_full' needs more than the picture"),
        ([{**UNIT, "module": "cany"}], "'control': there is no preprocessor 'cany'; did you mean 'canny'"),
        ([{**UNIT, "module": 3}], "the name of a preprocessor must be text, not 3"),
        ([{**UNIT, "module": "canny", "threshold_b": 300}], "the preprocessor 'canny' takes 1 to 255 as 'high', not 300"),
        ([{**UNIT, "module": "canny", "threshold_a": 90}], "takes a 'low' that is less than its 'high'"),
        ([{**UNIT, "module": "canny", "threshold_a": "much"}], "'low' of 'control'"),
        ([{"model": "edges"}], "needs an 'image'"),
    ],
)
def test_what_cannot_be_is_refused_by_its_name(control: Any, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said) as caught:
        read(control=control)
    assert caught.value.field == "control"


def test_another_script_beside_it_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="asks for a script") as caught:
        read(alwayson_scripts={"controlnet": {"args": [UNIT]}, "ADetailer": {"args": [True, {"ad_model": "face"}]}})
    assert caught.value.field == "alwayson_scripts.ADetailer"


def test_without_a_picture_it_looks_at_the_jobs_own() -> None:
    [use] = read(image=PNG, control=[{"model": "edges"}])
    assert use.image is None


def test_it_goes_over_the_wire_as_it_came() -> None:
    request, _ = Request.from_fields({"prompt": "a cat", "control": [UNIT, {"model": "b", "image": PNG}]})
    again, _ = Request.from_fields(json.loads(request.to_json()))
    assert again == request


@pytest.mark.parametrize(
    ("fields", "preprocessor", "numbers"),
    [
        ({"module": "canny", "threshold_a": 50, "threshold_b": 150}, "canny", (50, 150)),
        ({"module": "canny", "threshold_a": -1, "threshold_b": -1}, "canny", (100, 200)),
        ({"preprocessor": "Canny", "low": "50"}, "canny", (50, 200)),
        ({"module": "invert (from white bg & black line)", "threshold_a": 64, "threshold_b": 64}, "invert", ()),
        ({"preprocessor": "blur", "low": 4.5}, "blur_gaussian", (4.5,)),
        ({"module": "tile_resample", "threshold_a": 2, "threshold_b": 64}, "tile_resample", (2,)),
        ({"module": "None"}, None, ()),
        ({"module": ""}, None, ()),
    ],
)
def test_preprocessors(fields: dict[str, Any], preprocessor: str | None, numbers: tuple[float, ...]) -> None:
    [use] = read(control=[{"model": "edges", "image": PNG, **fields}])
    assert (use.preprocessor, use.numbers) == (preprocessor, numbers)
    again, _ = Request.from_fields({"prompt": "", "control": [use.to_fields()]})
    assert again.control == (use,)


def test_a_unit_that_has_no_model_is_no_controlnet() -> None:
    assert read(controlnet_units=[{"module": "canny", "model": "None", "image": PNG}]) == ()
    with pytest.raises(InvalidRequest, match="the preprocessor 'reference_only' needs more than the picture"):
        read(controlnet_units=[{"module": "reference_only", "model": "None", "image": PNG}])
