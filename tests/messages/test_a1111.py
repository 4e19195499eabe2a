"""Bodies as clients of A1111's API send them (``a1111/``): taken as they are, or refused by the name of what is not done."""

import base64
import json
from pathlib import Path

import pytest

from stablediffusiond import samplers
from stablediffusiond.errors import InvalidRequest
from stablediffusiond.messages.a1111 import FIELDS, DependsOn, Ignored, OfMask, Refused, Used
from stablediffusiond.messages.aliases import ALIASES, UNFOLDED
from stablediffusiond.messages.body import parse
from stablediffusiond.messages.request import Request

BODIES = {file.stem: file for file in (Path(__file__).parent / "a1111").glob("*.json")}
PROTOCOL = Path(__file__).parents[2] / "docs/protocol.md"
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\nnot really").decode()

#: StableDiffusionTxt2ImgProcessingAPI and StableDiffusionImg2ImgProcessingAPI of version 1.10.
ITS_FIELDS = {
    "prompt", "negative_prompt", "styles", "seed", "subseed", "subseed_strength", "seed_resize_from_h",
    "seed_resize_from_w", "sampler_name", "scheduler", "batch_size", "n_iter", "steps", "cfg_scale", "width",
    "height", "restore_faces", "tiling", "do_not_save_samples", "do_not_save_grid", "eta", "denoising_strength",
    "s_min_uncond", "s_churn", "s_tmax", "s_tmin", "s_noise", "override_settings",
    "override_settings_restore_afterwards", "refiner_checkpoint", "refiner_switch_at", "disable_extra_networks",
    "firstpass_image", "comments", "enable_hr", "firstphase_width", "firstphase_height", "hr_scale", "hr_upscaler",
    "hr_second_pass_steps", "hr_resize_x", "hr_resize_y", "hr_checkpoint_name", "hr_sampler_name", "hr_scheduler",
    "hr_prompt", "hr_negative_prompt", "force_task_id", "sampler_index", "script_name", "script_args", "send_images",
    "save_images", "alwayson_scripts", "infotext", "init_images", "resize_mode", "image_cfg_scale", "mask",
    "mask_blur_x", "mask_blur_y", "mask_blur", "mask_round", "inpainting_fill", "inpaint_full_res",
    "inpaint_full_res_padding", "inpainting_mask_invert", "initial_noise_multiplier", "latent_mask",
    "include_init_images",
}  # fmt: skip
OURS = {*Request.model_fields, *(alias for others in ALIASES.values() for alias in others), *UNFOLDED}


def body(name: str) -> dict[str, object]:
    fields = parse(BODIES[name].read_bytes())
    if fields.get("init_images") == ["string"]:
        fields["init_images"] = [PNG]  # the one thing that its page cannot fill in
    return fields


def read(**fields: object) -> tuple[Request, str]:
    request, warnings = Request.from_fields({"prompt": "cat", "id": "job", **fields})
    return request, "\n".join(warnings)


def complaint(**fields: object) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        read(**fields)
    return caught.value


@pytest.mark.parametrize("name", sorted(BODIES))
def test_a_body_that_a_client_sends_is_taken_as_it_is(name: str) -> None:
    request, warnings = Request.from_fields(body(name))
    assert request.type == ("img2img" if "img2img" in name else "txt2img")
    assert len(warnings) <= 3, "one for all that asks for nothing"
    assert Request.from_fields(parse(request.to_json()))[0] == request


def test_what_such_a_body_asks_for_is_drawn() -> None:
    made, _ = Request.from_fields(body("its_own_page_as_payload"))
    assert (made.count, made.width, made.height, made.sampler, made.seed) == (4, 768, 512, "DPM++ 2M", 1062019337)
    made, _ = Request.from_fields(body("open_webui"))
    assert (made.count, made.steps, made.guidance_scale, made.sampler) == (2, 30, 6.5, "DPM++ 2M Karras")
    made, _ = Request.from_fields(body("koboldai_lite_img2img"))
    assert (made.model, made.strength, made.sampler) == ("doodle", 0.6, "DPM++ 2M Karras")
    made, _ = Request.from_fields(body("documentation_page_txt2img"))
    assert (made.prompt, made.steps, made.guidance_scale, made.sampler, made.width) == ("", 50, 7, "Euler", 512)
    made, _ = Request.from_fields(body("auto_photoshop_img2img"))
    assert (made.count, made.strength, made.sampler, made.guidance_scale) == (2, 0.55, "Euler a", 7)
    made, _ = Request.from_fields(body("everything_as_text"))
    assert (made.steps, made.eta, made.model, made.sampler) == (25, 0, None, "Euler")


def test_the_placeholder_of_a_picture_is_named() -> None:
    with pytest.raises(InvalidRequest) as caught:
        Request.from_fields(parse(BODIES["documentation_page_img2img"].read_bytes()))
    assert caught.value.field == "init_images"


def test_every_field_of_its_api_stands_in_the_table() -> None:
    assert set(FIELDS) >= ITS_FIELDS
    assert {name for file in BODIES for name in body(file)} <= {*FIELDS, *OURS}


def test_every_field_of_the_table_is_documented() -> None:
    text = PROTOCOL.read_text("utf-8")
    assert [name for name in FIELDS if f"`{name}`" not in text] == []


@pytest.mark.parametrize("name", [name for name, handling in FIELDS.items() if isinstance(handling, Used)])
def test_what_is_used_is_a_field_of_ours_or_a_part_of_one(name: str) -> None:
    assert name in OURS or name in {"override_settings", "alwayson_scripts", "controlnet_units"}


@pytest.mark.parametrize("name", [name for name, handling in FIELDS.items() if isinstance(handling, Refused)])
def test_what_asks_for_what_is_not_done_is_refused_by_its_name(name: str) -> None:
    for value in (2, "2", "something", [2], {"a": 2}, ["something"]):
        assert complaint(**{name: value}).field == name
        assert name in str(complaint(**{name: value}))


NOT_USED = [name for name, handling in FIELDS.items() if not isinstance(handling, Used)]


@pytest.mark.parametrize("name", NOT_USED)
@pytest.mark.parametrize(
    "nothing", [False, 0, 0.0, -1, "", [], {}, "0", "-1", "false", "None", "string", ["string"], [None]], ids=repr
)
def test_what_asks_for_nothing_is_taken_with_a_warning(name: str, nothing: object) -> None:
    request, warnings = read(**{name: nothing})
    assert request == read()[0]
    assert repr(name) in warnings


@pytest.mark.parametrize(
    "name", [name for name, handling in FIELDS.items() if isinstance(handling, Ignored | DependsOn)]
)
def test_what_changes_no_picture_is_taken_whatever_it_says(name: str) -> None:
    for value in (True, 7, "something", [1, [2]], {"a": {"b": 1}}):
        request, warnings = read(**{name: value})
        assert request == read()[0]
        assert repr(name) in warnings


def test_what_depends_on_another_field_depends_on_one_that_is_refused() -> None:
    for handling in FIELDS.values():
        if isinstance(handling, DependsOn):
            assert isinstance(FIELDS[handling.field], Refused | OfMask)


@pytest.mark.parametrize(
    ("fields", "ours"),
    [
        ({"mask_blur": 32}, {"mask_blur": 32}),
        ({"mask_blur_x": 3, "mask_blur_y": "3"}, {"mask_blur": 3}),
        ({"mask_blur": 4, "mask_blur_x": 4, "mask_blur_y": 4}, {"mask_blur": 4}),
        ({"inpainting_fill": 0}, {"mask_fill": "neighbours"}),
        ({"inpainting_fill": "1"}, {"mask_fill": "original"}),
        ({"inpainting_fill": 2}, {"mask_fill": "noise"}),
        ({"inpainting_fill": 3}, {"mask_fill": "plain"}),
        ({"inpainting_mask_invert": 1}, {"mask_invert": True}),
        ({"inpainting_mask_invert": 0}, {"mask_invert": False}),
        ({"inpaint_full_res": True, "inpaint_full_res_padding": 32}, {"mask_padding": 32}),
        ({"inpaint_full_res": 1}, {"mask_padding": 0}),
        ({"inpaint_full_res": False, "inpaint_full_res_padding": 32}, {"mask_padding": None}),
    ],
)
def test_what_is_about_a_mask_is_looked_at_beside_one(fields: dict[str, object], ours: dict[str, object]) -> None:
    without, warnings = read(init_images=[PNG], **fields)
    assert without == read(init_images=[PNG])[0]
    assert all(repr(name) in warnings for name in fields)
    request = read(init_images=[PNG], mask=PNG, **fields)[0]
    assert {name: getattr(request, name) for name in ours} == ours


@pytest.mark.parametrize(
    "fields",
    [{"inpainting_fill": 4}, {"inpainting_mask_invert": "x"}, {"mask_blur": 65}, {"mask_blur_x": 1, "mask_blur_y": 2},
     {"expanded_mask": "x"}, {"inpaint_full_res": True, "inpaint_full_res_padding": -5}],
)  # fmt: skip
def test_a_mask_that_cannot_be_is_refused_by_the_name_of_the_field(fields: dict[str, object]) -> None:
    assert complaint(init_images=[PNG], mask=PNG, **fields).field in {*fields, "mask_padding"}


@pytest.mark.parametrize("name", sorted({*FIELDS, *OURS} - {"prompt", "id"}))
def test_null_is_the_same_as_absent(name: str) -> None:
    assert read(**{name: None}) == read()


def test_its_own_defaults_ask_for_nothing() -> None:
    read(s_noise=1, initial_noise_multiplier=1.0, clip_skip="1")
    assert complaint(s_noise=1.003).field == "s_noise"
    assert read(clip_skip=2)[0].clip_skip == 2
    assert complaint(clip_skip=13).field == "clip_skip"


def test_true_is_a_placeholder_only_beside_others() -> None:
    assert not read(tiling=True, restore_faces=True, hr_upscaler="string")[0].tiling
    assert read(tiling=True)[0].tiling
    assert complaint(restore_faces=True, prompt="string").field == "restore_faces"


@pytest.mark.parametrize("strength", [0, 0.7, 7, "x", None])
def test_its_strength_is_only_looked_at_beside_an_image(strength: object) -> None:
    request, warnings = read(denoising_strength=strength)
    assert request == read()[0]
    assert bool(warnings) == (strength is not None)


def test_its_strength_0_draws_one_step() -> None:
    request, warnings = read(init_images=[PNG], denoising_strength=0)
    assert 0 < request.strength < 1 / 150
    assert "one step" in warnings
    assert complaint(init_images=[PNG], denoising_strength=1.5).field == "denoising_strength"


def test_n_iter_multiplies_whatever_says_how_many() -> None:
    assert read(n_iter=3)[0].count == 3
    assert read(n_iter="3", batch_size=2.0)[0].count == 6
    assert read(n_iter=3, batch_size=None)[0].count == 3
    assert read(n_iter=3, batch_size=2, n=2)[0].count == 6
    assert complaint(n_iter=3, batch_size=2, n=3).field == "n"


def test_its_sampler_has_two_names() -> None:
    assert read(sampler_index="Euler", sampler_name="DDIM")[0].sampler == "DDIM"
    assert read(sampler_index="Euler", sampler_name=None)[0].sampler == "Euler"
    assert read(sampler_index="LMS", sampler_name="", scheduler="karras")[0].sampler == "LMS Karras"
    assert read(sampler_index=0)[0].sampler is None
    assert complaint(sampler_name="zigzag").field == "sampler_name"
    assert complaint(sampler_index=3).field == "sampler_index"


@pytest.mark.parametrize("schedule", ["Automatic", "", "None"])
def test_a_schedule_that_is_the_models_own_asks_for_nothing(schedule: str) -> None:
    assert read(sampler_name="Euler", scheduler=schedule)[0].sampler == "Euler"


@pytest.mark.parametrize("schedule", ["Uniform", "SGM Uniform", "Simple", "Beta", "Align Your Steps"])
def test_its_schedules_are_a_samplers_second_name(schedule: str) -> None:
    sampler = read(sampler_name="Euler", scheduler=schedule)[0].sampler
    assert sampler == str(samplers.find("Euler", schedule)) != "Euler"


@pytest.mark.parametrize("schedule", ["KL Optimal", "Turbo"])
def test_a_schedule_that_is_not_done_is_refused_as_one(schedule: str) -> None:
    error = complaint(sampler_name="Euler", scheduler=schedule)
    assert error.field == "scheduler"
    assert "unknown schedule" in str(error)


def test_what_it_does_not_have_is_unknown_as_ever() -> None:
    assert "did you mean 'enable_hr'" in str(complaint(enable_hires=True))


def test_deep_and_wide_values_are_read_at_a_bounded_price() -> None:
    deep: object = []
    for _ in range(900):
        deep = [deep]
    for name in ("styles", "script_args", "mask", "hr_prompt"):
        try:
            read(**{name: deep})
        except InvalidRequest as error:
            assert len(str(error)) < 1000
    assert complaint(alwayson_scripts={f"s{n}": {"args": [1]} for n in range(10_000)}).field == "alwayson_scripts.s0"
    assert complaint(override_settings=json.loads('{"a":' * 900 + "{}" + "}" * 900)).field == "override_settings.a"
