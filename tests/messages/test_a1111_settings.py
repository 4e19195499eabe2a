"""``override_settings`` and ``alwayson_scripts`` of A1111's bodies."""

import base64

import pytest

from stablediffusiond.errors import InvalidRequest
from stablediffusiond.messages.request import Request

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\nnot really").decode()


def read(**fields: object) -> tuple[Request, str]:
    request, warnings = Request.from_fields({"prompt": "cat", "id": "job", **fields})
    return request, "\n".join(warnings)


def complaint(**fields: object) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        read(**fields)
    return caught.value


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"CLIP_stop_at_last_layers": 20}, "override_settings.CLIP_stop_at_last_layers"),
        ({"samples_format": "avif"}, "override_settings.samples_format"),
        ({"sd_hypernetwork": "anime"}, "override_settings.sd_hypernetwork"),
        ({"token_merging_ratio": 0.5}, "override_settings.token_merging_ratio"),
        ({"x" * 1000: 2}, f"override_settings.{'x' * 100}"),
        ("something", "override_settings"),
        (7, "override_settings"),
    ],
)
def test_a_setting_that_is_not_done_is_refused_by_its_name(settings: object, field: str) -> None:
    assert complaint(override_settings=settings).field == field


@pytest.mark.parametrize(
    "settings",
    [
        {}, [], "", None, {"CLIP_stop_at_last_layers": 1}, {"CLIP_stop_at_last_layers": "1"}, {"sd_vae": "Automatic"},
        {"sd_vae": "None"}, {"samples_format": "png"}, {"enable_pnginfo": True}, {"webp_lossless": True}, {"return_grid": False}, {"save_to_dirs": True}, {"anything": None},
        {"eta_noise_seed_delta": 31337}, {"randn_source": "CPU"}, {"samples_save": True}, {"sd_model_checkpoint": None},
    ],
)  # fmt: skip
def test_a_setting_that_asks_for_nothing_is_taken(settings: object) -> None:
    assert read(override_settings=settings)[0] == read()[0]


def test_the_format_in_the_settings_is_the_format() -> None:
    jpeg, warnings = read(override_settings={"samples_format": "jpg", "jpeg_quality": 80, "enable_pnginfo": "false"})
    assert (jpeg.format, jpeg.quality, jpeg.metadata, warnings) == ("jpeg", 80, False, "")
    lossless = read(override_settings={"samples_format": "webp", "jpeg_quality": 80, "webp_lossless": True})[0]
    assert (lossless.format, lossless.quality) == ("webp", 100)


def test_the_checkpoint_in_the_settings_is_the_model() -> None:
    assert read(override_settings={"sd_model_checkpoint": "dreamshaper_8.safetensors [879db523c3]"})[0].model == (
        "dreamshaper_8.safetensors [879db523c3]"
    )
    assert read(models=["a", "b"])[0].model == "a"
    both = {"model": "a", "override_settings": {"sd_model_checkpoint": "b"}}
    assert complaint(**both).field == "override_settings.sd_model_checkpoint"


@pytest.mark.parametrize(
    ("scripts", "field"),
    [
        ({"ADetailer": {"args": [True, {"ad_model": "face_yolov8n.pt"}]}}, "alwayson_scripts.ADetailer"),
        ({"ADetailer": {"args": [{"ad_model": "face_yolov8n.pt"}]}}, "alwayson_scripts.ADetailer"),
        ({"reactor": {"args": {"source": "x"}}}, "alwayson_scripts.reactor"),
        ({"ControlNet": {"args": [{"enabled": False}, {"model": "canny"}]}}, "control"),
        ({"Refiner": [True, "xl_refiner", 0.8]}, "alwayson_scripts.Refiner"),
        ({"x" * 1000: {"args": [1]}}, f"alwayson_scripts.{'x' * 100}"),
        ("something", "alwayson_scripts"),
        ([{"model": "canny"}], "alwayson_scripts"),
    ],
)
def test_a_script_that_is_on_is_refused_by_its_name(scripts: object, field: str) -> None:
    assert complaint(alwayson_scripts=scripts).field == field


def test_a_controlnet_unit_of_old_is_refused_where_it_is_on() -> None:
    assert complaint(controlnet_units=[{"module": "openpose", "model": "pose"}]).field == "controlnet_units"
    read(controlnet_units=[{"enabled": "false", "module": "canny", "model": "canny"}])
