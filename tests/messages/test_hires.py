"""A second pass, and an upscale, as clients of all kinds ask for them."""

import base64
from typing import Any

import pytest

from stablediffusiond.errors import InvalidRequest
from stablediffusiond.messages import infotext_fields
from stablediffusiond.messages.body import parse
from stablediffusiond.messages.drawn_request import from_json, to_json
from stablediffusiond.messages.hires import Hires
from stablediffusiond.messages.request import Request
from tests.messages.drawn import drawn

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\nnot really").decode()
A1111: dict[str, Any] = {
    "enable_hr": True, "hr_scale": 1.5, "hr_upscaler": "4x-UltraSharp.pth", "hr_second_pass_steps": 12,
    "denoising_strength": 0.45, "hr_resize_x": 0, "hr_resize_y": 0, "hr_checkpoint_name": "Use same checkpoint",
    "hr_sampler_name": "Use same sampler", "hr_scheduler": "Use same scheduler", "hr_prompt": "",
    "hr_negative_prompt": "", "firstphase_width": 0, "firstphase_height": 0,
}  # fmt: skip


def read(**fields: object) -> Request:
    return Request.from_fields({"prompt": "cat", "id": "job", **fields})[0]


def complaint(**fields: object) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        read(**fields)
    return caught.value


# A second pass


@pytest.mark.parametrize(
    ("asked", "hires"),
    [
        ({"hires": {}}, Hires()),
        ({"hires": True}, Hires()),
        ({"hires": 3}, Hires(scale=3)),
        ({"hires": "1.5"}, Hires(scale=1.5)),
        ({"hires": {"scale": "2", "upscaler": "LATENT (Bicubic)"}}, Hires(upscaler="Latent (bicubic)")),
        ({"hires": {"width": 768, "height": "512", "strength": 0.3}}, Hires(width=768, height=512, strength=0.3)),
        ({"hires": {"upscaler": "models/ESRGAN/4x_foolhardy.pth"}}, Hires(upscaler="4x_foolhardy")),
        ({"hires": {"cfg_scale": 3, "sampler": "Euler a"}}, Hires(guidance_scale=3, sampler="Euler a")),
        ({"enable_hr": True}, Hires()),
        ({"enable_hr": "true", "hr_scale": "2"}, Hires()),
        (A1111, Hires(scale=1.5, upscaler="4x-UltraSharp", steps=12, strength=0.45)),
        ({**A1111, "hr_sampler_name": "DPM++ 2M"}, Hires(scale=1.5, upscaler="4x-UltraSharp", steps=12, strength=0.45, sampler="DPM++ 2M")),
        ({**A1111, "hr_resize_x": 1024}, Hires(scale=1.5, width=1024, upscaler="4x-UltraSharp", steps=12, strength=0.45)),
        ({"enable_hr": True, "hr_cfg": 1, "hr_distilled_cfg": 3.5, "hr_additional_modules": ["Use same choices"]}, Hires()),
        ({"enable_hr": True, "hr_cfg": 5}, Hires(guidance_scale=5)),
    ],
)  # fmt: skip
def test_every_way_to_ask_for_a_second_pass(asked: dict[str, object], hires: Hires) -> None:
    made = read(**asked)
    assert made.hires == hires
    assert Request.from_fields(parse(made.to_json()))[0] == made
    assert made.strength == 0.75, "that of img2img is another"


@pytest.mark.parametrize("nothing", [None, False, 0, 1, "1", "", "false", "None"])
def test_what_asks_for_none(nothing: object) -> None:
    assert read(hires=nothing).hires is None


def test_before_a_scale_there_was_the_size_of_the_first_pass() -> None:
    made = read(enable_hr=True, firstphase_width=512, firstphase_height=384, width=1024, height=768)
    assert (made.width, made.height) == (512, 384)
    assert made.hires == Hires(width=1024, height=768)


@pytest.mark.parametrize(
    ("asked", "field", "said"),
    [
        ({"hires": {"scale": 1}}, "hires", "'scale' of 'hires'"),
        ({"hires": {"scale": 9}}, "hires", "'scale' of 'hires'"),
        ({"hires": {"strength": 0}}, "hires", "'strength' of 'hires'"),
        ({"hires": {"width": 500}}, "hires", "'width' of 'hires'"),
        ({"hires": {"steps": -3}}, "hires", "'steps' of 'hires'"),
        ({"hires": {"upscalr": "Latent"}}, "hires", "'upscalr'"),
        ({"hires": {"sampler": "Oiler"}}, "hires", "did you mean"),
        ({"hires": {"scale": 2, "hr_scale": 3}}, "hires", "differ"),
        ({"hires": "large"}, "hires", "'scale' of 'hires'"),
        ({"hires": {}, "image": PNG}, "hires", "it is for txt2img"),
        ({"hires": {}, "enable_hr": 7}, "enable_hr", "neither true nor false"),
        ({"enable_hr": True, "hr_prompt": "a dog"}, "hr_prompt", "another prompt"),
        ({"enable_hr": True, "hr_checkpoint_name": "sdxl"}, "hr_checkpoint_name", "another model"),
        ({"enable_hr": True, "firstpass_image": PNG}, "firstpass_image", "not done here"),
        ({"upscaler": "Lanczos"}, "upscaler", "for the type upscale"),
    ],
)
def test_what_cannot_be_is_refused_by_its_name(asked: dict[str, object], field: str, said: str) -> None:
    error = complaint(**asked)
    assert error.field == field
    assert said in str(error)


@pytest.mark.parametrize(
    ("hires", "size"),
    [
        (Hires(), (1024, 768)),
        (Hires(scale=1.3), (664, 496)),
        (Hires(width=768), (768, 576)),
        (Hires(height=768), (1024, 768)),
        (Hires(width=640, height=640), (640, 640)),
    ],
)
def test_the_size_that_it_leads_to(hires: Hires, size: tuple[int, int]) -> None:
    assert hires.size((512, 384), 8) == size


# An upscale


@pytest.mark.parametrize(
    ("asked", "upscaler", "by"),
    [
        ({}, "Lanczos", 2),
        ({"scale": 4}, "Lanczos", 4),
        ({"upscale_by": "1.5", "upscaler": "nearest"}, "Nearest", 1.5),
        ({"upscaling_resize": 4, "upscaler_1": "R-ESRGAN 4x+.pth"}, "R-ESRGAN 4x+", 4),
        ({"upscaler": "None"}, "Lanczos", 2),
    ],
)
def test_every_way_to_ask_for_an_upscale(asked: dict[str, object], upscaler: str, by: float) -> None:
    made, _ = Request.from_fields({"type": "upscale", "image": PNG, "id": "x", **asked})
    assert (made.upscaler, made.upscale_by, made.prompt) == (upscaler, by, "")
    assert Request.from_fields(parse(made.to_json()))[0] == made


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"image": None}, "image"),
        ({"scale": 20}, "scale"),
        ({"upscaler": "Latent"}, "upscaler"),
        ({"width": 512}, "width"),
        ({"count": 2}, "count"),
        ({"mask": PNG}, "mask"),
        ({"hires": {}}, "hires"),
        ({"control": [{"model": "edges"}]}, "control"),
    ],
)
def test_what_no_upscale_can_is_refused(asked: dict[str, object], field: str) -> None:
    assert complaint(**{"type": "upscale", "image": PNG, **asked}).field == field


# What a file says


HIRES = [
    {"scale": 1.5, "steps": 7, "strength": 0.4},
    {"width": 512, "height": 384, "upscaler": "4x-UltraSharp", "strength": 0.3},
    {"sampler": "Euler a", "guidance_scale": 3.5},
]


@pytest.mark.parametrize("hires", HIRES)
def test_a_second_pass_comes_back_from_a1111s_text(hires: dict[str, object]) -> None:
    request, facts = drawn(hires=hires)
    before = request.hires
    assert before is not None
    facts = facts.model_copy(update={"first_width": 128, "first_height": 96, "width": 256, "height": 192})
    text = infotext_fields.write(request, facts)
    assert "Size: 128x96" in text
    said = infotext_fields.read(text)
    assert said.not_taken == []
    assert read(**said.fields).hires == before
    assert "strength" not in said.fields


@pytest.mark.parametrize("hires", HIRES)
def test_a_second_pass_comes_back_from_our_json(hires: dict[str, object]) -> None:
    request, facts = drawn(hires=hires)
    facts = facts.model_copy(update={"first_width": 128, "first_height": 96, "width": 256, "height": 192})
    said = from_json(to_json(request, facts))
    assert (said.fields["width"], said.fields["height"]) == (128, 96)
    assert read(**said.fields).hires == request.hires


def test_what_is_not_done_of_a_foreign_second_pass_is_named() -> None:
    said = infotext_fields.read(
        "a cat\nSteps: 20, Sampler: Euler a, Seed: 1, RNG: CPU, Denoising strength: 0.4, Hires upscale: 20, "
        "Hires steps: 0, Hires upscaler: Latent, Hires prompt: a dog"
    )
    assert said.fields["hires"] == {"upscaler": "Latent", "strength": "0.4"}
    assert said.not_taken == ["scale of a second pass ('20')", "steps of a second pass ('0')", "Hires prompt"]


def test_an_upscale_says_what_it_was_in_a1111s_words() -> None:
    request, facts = drawn(type="upscale", image=PNG, width=None, height=None, scale=4, upscaler="4x-UltraSharp")
    text = infotext_fields.write(request, facts)
    assert "Postprocess upscale by: 4, Postprocess upscaler: 4x-UltraSharp" in text
    said = from_json(to_json(request, facts))
    assert said.fields["type"] == "upscale"
    assert not {"steps", "seed", "width"} & said.fields.keys()
    assert "image" in said.hashes
