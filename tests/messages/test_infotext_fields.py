"""Between requests and A1111's text: right for every feature that a request has."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stablediffusiond import samplers
from stablediffusiond.errors import InvalidRequest
from stablediffusiond.messages import infotext_fields
from stablediffusiond.messages.request import Request
from stablediffusiond.samplers import Sampler
from tests.messages.drawn import drawn

PNG = b"\x89PNG\r\n\x1a\n"


def written(**fields: object) -> str:
    return infotext_fields.write(*drawn(**fields))  # type: ignore[arg-type]


def again(text: str, **fields: object) -> Request:
    return Request.from_fields({**infotext_fields.read(text).fields, "id": "mine", **fields})[0]


def test_it_says_what_a1111_says_in_its_order() -> None:
    text = written(
        prompt="a (cat:1.2) <lora:ink:0.5>", negative_prompt="dog", sampler="DPM++ 2M Karras", clip_skip=2, eta=0.5,
        image=PNG, strength=0.6, loras=["oil:0.8"], index=1, count=2, model="/srv/models/v1-5.safetensors",
    )  # fmt: skip
    assert text == (
        "a (cat:1.2) <lora:ink:0.5><lora:oil:0.8>\n"
        "Negative prompt: dog\n"
        "Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7.5, Seed: 43, Size: 128x64, Model: v1-5, "
        "Denoising strength: 0.6, Clip skip: 2, RNG: CPU, Eta DDIM: 0.5"
    )


def test_an_inpainted_variation_says_what_a1111_says() -> None:
    text = written(
        image=PNG, mask=PNG, mask_blur=4, mask_invert=True, mask_fill="noise", mask_padding=16, subseed=7, subseed_strength=0.25,
        tiling=True, guidance_rescale=0.7, index=1, count=2,
    )  # fmt: skip
    assert text.endswith(
        "Seed: 42, Size: 128x64, Model: doodle, Variation seed: 8, Variation seed strength: 0.25, Denoising strength: 0.75, "
        "RNG: CPU, Tiling: True, Mask blur: 4, Mask mode: Inpaint not masked, Masked content: latent noise, "
        "Inpaint area: Only masked, Masked area padding: 16, CFG Rescale: 0.7"
    )


def test_controlnets_stand_where_they_hide_no_model() -> None:
    text = written(image=PNG, control=[{"model": "canny", "scale": 0.5, "end": 0.8}], strength=1)
    assert (
        'Size: 128x64, ControlNet 0: "Module: none, Model: canny, Weight: 0.5, Guidance Start: 0, Guidance End: 0.8, '
        'Control Mode: Balanced", Model: doodle, Denoising strength: 1'
    ) in text
    assert infotext_fields.read(text).not_taken == ["ControlNet 0"]
    text = written(image=PNG, control=[{"model": "canny", "preprocessor": "canny", "low": 50}])
    assert 'Module: canny, Model: canny, Weight: 1, Threshold A: 50, Threshold B: 200, Guidance Start: 0' in text


def test_a_prompt_alone_has_what_the_model_chose() -> None:
    assert written(own_sampler="PLMS") == (
        "a red cat\nSteps: 20, Sampler: PLMS, Schedule type: Automatic, CFG scale: 7.5, Seed: 42, Size: 128x64, "
        "Model: doodle, RNG: CPU"
    )


def test_a_models_own_scheduler_without_a_name_is_called_by_its_class() -> None:
    assert "Sampler: EDMEulerScheduler, Schedule type: Automatic" in written(own_sampler="EDMEulerScheduler")


def test_brackets_of_a_plain_prompt_are_letters_for_a1111_too() -> None:
    text = written(prompt=r"a [red] (cat) \o/", negative_prompt="(:", prompt_syntax="plain")
    assert text.startswith("a \\[red\\] \\(cat\\) \\\\o/\nNegative prompt: \\(:\n")


def _possible() -> list[Sampler]:
    made = [Sampler(name) for name in samplers.NAMES]
    for name in samplers.NAMES:
        for schedule in samplers.SCHEDULES:
            try:
                found = samplers.find(name, schedule)
            except InvalidRequest:
                continue
            made += [found] if found else []
    return made


@pytest.mark.parametrize("sampler", _possible(), ids=str)
def test_every_sampler_with_every_schedule_comes_back(sampler: Sampler) -> None:
    assert again(written(sampler=str(sampler))).chosen_sampler() == sampler


WORDS = st.text(st.sampled_from("abcäöü漢🐈 ,.:!'\"-"), max_size=30).map(str.strip)
PROMPTS = st.lists(WORDS, min_size=1, max_size=3).map("\n".join).map(str.strip)
SCALES = st.floats(-10, 10, allow_nan=False)


@given(
    prompt=PROMPTS,
    negative_prompt=PROMPTS,
    seed=st.integers(0, 2**64 - 1),
    steps=st.integers(1, 1000),
    guidance_scale=st.floats(0, 100),
    sampler=st.sampled_from(_possible()).map(str),
    width=st.integers(8, 2048).map(lambda each: 8 * each),
    height=st.integers(8, 2048).map(lambda each: 8 * each),
    clip_skip=st.integers(2, 12) | st.none(),
    eta=st.floats(0, 1),
    strength=st.floats(0, 1, exclude_min=True),
    image=st.sampled_from([PNG, None]),
    model=st.sampled_from(["doodle", "v1, 5: final", None]),
    subseed=st.integers(0, 2**64 - 1),
    subseed_strength=st.floats(0, 1),
    tiling=st.booleans(),
    guidance_rescale=st.floats(0, 1),
    of_mask=st.none()
    | st.fixed_dictionaries(
        {
            "image": st.just(PNG),
            "mask": st.just(PNG),
            "mask_blur": st.floats(0, 64),
            "mask_invert": st.booleans(),
            "mask_fill": st.sampled_from(["original", "neighbours", "noise", "plain"]),
            "mask_padding": st.none() | st.integers(0, 4096),
        }
    ),
    loras=st.lists(st.tuples(st.sampled_from(["ink", "oil, 2"]), SCALES, SCALES | st.none()), max_size=2),
)
def test_every_feature_comes_back(
    loras: list[tuple[str, float, float | None]], of_mask: dict[str, object] | None, **fields: object
) -> None:
    fields |= of_mask or {}
    given_loras = [{"name": name, "scale": scale, "text_encoder_scale": te} for name, scale, te in loras]
    before = Request.from_fields({"id": "mine", **fields, "loras": given_loras})[0]
    image = {name: data for name in ("image", "mask") if (data := getattr(before, name))}
    text = written(**fields, loras=given_loras)
    after = again(text, **image)
    shown = {"prompt", "loras", "model"}
    assert after.model_dump(exclude=shown) == before.model_dump(exclude=shown)
    assert after.prompt_to_read == before.prompt
    assert [(each.name, each.scale, each.for_text_encoders) for each in after.chosen_loras()] == [
        (each.name, each.scale, each.for_text_encoders) for each in before.chosen_loras()
    ]


def not_taken(parameters: str) -> list[str]:
    return infotext_fields.read(f"a cat\nSteps: 20, Sampler: Euler a, Seed: 1, {parameters}").not_taken


FORGE = """masterpiece, <lora:ink:0.8> a cat
Negative prompt: lowres, bad
Steps: 25, Sampler: DPM++ 2M SDE, Schedule type: Karras, CFG scale: 6, Seed: 3608254109, Size: 832x1216, \
Model hash: 6ce0161689, Model: v1-5-pruned-emaonly, Denoising strength: 0.35, Clip skip: 2, RNG: CPU, \
Hires upscale: 1.5, Hires upscaler: Latent, Lora hashes: "ink: 0f3a99, oil: 77", \
ControlNet 0: "Module: canny, Model: control_canny, Weight: 1", Version: f2.0.1v1.10.1"""


def test_a_file_of_forge_is_taken_and_what_cannot_be_is_named() -> None:
    said = infotext_fields.read(FORGE)
    assert said.fields == {
        "prompt": "masterpiece, <lora:ink:0.8> a cat", "negative_prompt": "lowres, bad", "steps": "25", "model": "v1-5-pruned-emaonly",
        "sampler": "DPM++ 2M SDE Karras", "guidance_scale": "6", "seed": "3608254109", "width": "832", "height": "1216",
        "clip_skip": "2", "hires": {"scale": "1.5", "upscaler": "Latent", "strength": "0.35"},
    }  # fmt: skip
    assert said.not_taken == ["Model hash", "Lora hashes", "ControlNet 0", "Version"]


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ("RNG: NV", ["RNG (NV: the same seed gives another picture here)"]),
        ("CFG scale: 7", ["RNG (GPU: the same seed gives another picture here)"]),
        ("RNG: CPU, Size: 500x512", ["Size ('500x512')"]),
        ("RNG: CPU, Size: big", ["Size ('big')"]),
        ("RNG: CPU, Clip skip: 40", ["Clip skip ('40')"]),
        ("RNG: CPU, Schedule type: Turbo", ["Schedule type (unknown schedule 'Turbo')"]),
        ("RNG: CPU, Schedule type: Karras", ["Schedule type (Euler a has no Karras schedule)"]),
        ("RNG: CPU, Eta: 0.7", ["Eta"]),
        ("RNG: CPU, Masked content: lama cleaner", ["Masked content"]),
        ("RNG: CPU, Inpaint area: Whole picture, Masked area padding: 8, Mask mode: Inpaint masked", []),
        ("RNG: CPU, Variation seed: -5, Variation seed strength: 2", ["Variation seed ('-5')", "Variation seed strength ('2')"]),
    ],
)
def test_what_is_not_done_here_is_named_with_its_value(parameters: str, named: list[str]) -> None:
    assert not_taken(parameters) == named


def test_an_unknown_sampler_is_left_to_the_model_and_named() -> None:
    said = infotext_fields.read("cat\nSteps: 20, Sampler: Restart, Seed: 1, RNG: CPU")
    assert "sampler" not in said.fields
    assert said.not_taken == ["Sampler (unknown sampler 'Restart')"]


def test_older_texts_are_read_too() -> None:
    said = infotext_fields.read("cat\nSteps: 20, Sampler: DPM++ 2M Karras, Seed: 1, RNG: CPU")
    assert (said.fields["sampler"], said.not_taken) == ("DPM++ 2M Karras", [])
    assert infotext_fields.read("cat\nSteps: 20, Sampler: DDIM, Seed: 1, Eta: 0.2").fields["eta"] == "0.2"


def test_many_unknown_keys_are_counted() -> None:
    assert not_taken("RNG: CPU, " + ", ".join(f"key {number}: 1" for number in range(50)))[-1] == "and 20 more"


def test_a_text_that_has_no_parameters_is_none() -> None:
    with pytest.raises(InvalidRequest, match="does not say how it was drawn"):
        infotext_fields.read("Created with GIMP")
