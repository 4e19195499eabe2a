import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stablediffusiond.errors import InvalidRequest, UnreadableMessage
from stablediffusiond.messages.aliases import ALIASES, IGNORED
from stablediffusiond.messages.body import parse
from stablediffusiond.messages.request import MAX_ID_BYTES, MAX_PROMPT_CHARACTERS, Request

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\nnot really").decode()


def request(**fields: object) -> Request:
    return Request.from_fields({"prompt": "a cat", **fields})[0]


def complaint(**fields: object) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        request(**fields)
    return caught.value


def test_a_prompt_is_enough() -> None:
    made = request()
    assert (made.type, made.count, made.sampler) == ("txt2img", 1, None)
    assert (made.width, made.steps, made.guidance_scale) == (None, None, None)  # for the model to choose


@pytest.mark.parametrize(
    ("canonical", "alias"), [(name, alias) for name, others in ALIASES.items() for alias in others]
)
def test_every_spelling_means_its_field(canonical: str, alias: str) -> None:
    values: dict[str, object] = {
        "prompt": "a cat", "type": "txt2img", "sampler": "Euler a", "image": PNG, "mask": PNG, "strength": 0.5, "eta": 0.25, "width": 64, "height": 64,
        "control": [{"model": "edges", "image": PNG}], "loras": ["ink:0.5"], "mask_invert": "true", "mask_fill": "noise",
        "format": "webp", "metadata": "false", "upscaler": "Nearest",
    }  # fmt: skip
    value = values.get(canonical, 3)
    beside: dict[str, object] = {"image": PNG} if canonical.startswith("mask") else {}
    beside |= {"image": PNG, "type": "upscale"} if canonical.startswith("upscale") else {}
    beside |= {"mask": PNG} if canonical.startswith("mask_") else {}
    assert getattr(request(id="x", **{alias: value}, **beside), canonical) == getattr(
        request(id="x", **{canonical: value}, **beside), canonical
    )


def test_the_2022_request_still_works() -> None:
    """The body that the first stablediffusiond's own client sent, every value as text."""
    body: dict[str, object] = {
        "prompt": "cat", "ddim_steps": "50", "ddim_eta": "0.0", "n_iter": "2", "n_samples": "3", "W": "512", "H": "512",
        "C": "4", "f": "8", "scale": "7.5", "seed": "42", "plms": "true", "skip_grid": "true", "outdir": "/tmp",
        "laion400m": "false", "fixed_code": "true", "precision": "full", "ckpt": "model.ckpt", "config": "v1.yaml",
        "n_rows": "0", "skip_save": "false",
    }  # fmt: skip
    made, warnings = Request.from_fields(body)
    assert (made.steps, made.count, made.width, made.height, made.seed, made.sampler) == (50, 6, 512, 512, 42, "PLMS")
    assert len(warnings) == len(IGNORED & body.keys()) == 11
    assert "'outdir' is accepted and ignored" in warnings


def test_an_a1111_request_works() -> None:
    made = request(cfg_scale=7, sampler_name="DPM++ 2M", scheduler="Karras", batch_size=2, n_iter=2, seed=-1)
    assert (made.guidance_scale, made.sampler, made.count) == (7.0, "DPM++ 2M Karras", 4)


def test_a1111_init_images_make_an_img2img_job() -> None:
    made = request(init_images=[PNG], denoising_strength=0.4)
    assert (made.type, made.strength, made.guidance_scale) == ("img2img", 0.4, None)
    assert made.image == base64.b64decode(PNG)


def test_a_data_url_is_an_image() -> None:
    assert request(image=f"data:image/png;base64,{PNG}").image == base64.b64decode(PNG)


@pytest.mark.parametrize(
    "image", ["/etc/passwd", "https://example.org/cat.png", "file:///etc/passwd", "data:image/png,x"]
)
def test_nothing_that_a_message_names_is_opened(image: str) -> None:
    assert complaint(image=image).field == "image"


def test_an_unknown_field_is_named_with_the_nearest_known_one() -> None:
    error = complaint(stepz=3)
    assert error.field == "stepz"
    assert "did you mean 'steps'" in str(error)


def test_two_spellings_that_disagree_are_refused() -> None:
    assert "'steps' and 'ddim_steps' mean the same and differ" in str(complaint(steps=3, ddim_steps=4))
    assert request(steps=3, ddim_steps=3).steps == 3


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"steps": 0}, "steps"),
        ({"steps": "many"}, "steps"),
        ({"steps": True}, "steps"),
        ({"steps": 2.5}, "steps"),
        ({"width": 100}, "width"),
        ({"width": 8}, "width"),
        ({"guidance_scale": "nan"}, "guidance_scale"),
        ({"guidance_scale": float("inf")}, "guidance_scale"),
        ({"count": 0}, "count"),
        ({"n_iter": "x"}, "n_iter"),
        ({"image": PNG, "mask": PNG, "strength": 0}, "strength"),
        ({"image": PNG, "mask": PNG, "strength": 1.1}, "strength"),
        ({"image": PNG, "denoising_strength": 1.1}, "denoising_strength"),
        ({"ddim_steps": 0}, "ddim_steps"),
        ({"batch_size": True}, "batch_size"),
        ({"priority": "urgent"}, "priority"),
        ({"deadline_seconds": 0}, "deadline_seconds"),
        ({"type": "upscaled"}, "type"),
        ({"type": "img2img"}, "image"),
        ({"type": "txt2img", "image": PNG}, "image"),
        ({"init_images": PNG}, "init_images"),
        ({"type": "img2img", "init_images": []}, "image"),
        ({"init_images": [PNG, PNG]}, "init_images"),
        ({"plms": "perhaps"}, "plms"),
        ({"sampler": 3}, "sampler"),
        ({"sampler": "eular"}, "sampler"),
        ({"scheduler": "karras"}, "scheduler"),
        ({"prompt": "x" * (MAX_PROMPT_CHARACTERS + 1)}, "prompt"),
        ({"prompt": ["cat"]}, "prompt"),
        ({"id": "x" * (MAX_ID_BYTES + 1)}, "id"),
        ({"id": "a\nb"}, "id"),
    ],
)
def test_what_cannot_be_drawn_is_refused_by_field(fields: dict[str, object], field: str) -> None:
    assert complaint(**fields).field == field


def test_a_request_without_a_prompt_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="'prompt' is required"):
        Request.from_fields({})


def test_an_empty_prompt_is_a_prompt() -> None:
    assert not request(prompt="").prompt


def test_the_message_id_is_the_job_id_unless_the_body_has_one() -> None:
    assert Request.from_fields({"prompt": "x"}, default_id="m")[0].id == "m"
    assert Request.from_fields({"prompt": "x", "id": 7}, default_id="m")[0].id == "7"


@pytest.mark.parametrize("body", [b"", b"cat", b"[1]", b'"x"', b"\xff\xfe", b"{", b"[" * 100_000])
def test_what_is_no_json_object_is_unreadable(body: bytes) -> None:
    with pytest.raises(UnreadableMessage):
        parse(body)


@given(st.binary(max_size=200))
def test_no_body_breaks_the_parser(body: bytes) -> None:
    try:
        fields = parse(body)
        Request.from_fields(fields)
    except (UnreadableMessage, InvalidRequest) as error:
        assert str(error)


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3),
)
_NAMES = st.sampled_from([*Request.model_fields, *(a for others in ALIASES.values() for a in others), "n_iter", "plms"])


@given(st.dictionaries(_NAMES, _VALUES, max_size=6))
def test_any_values_make_a_request_or_a_named_complaint(fields: dict[str, object]) -> None:
    try:
        made, _ = Request.from_fields(fields)
    except InvalidRequest as error:
        assert error.field
    else:
        assert Request.from_fields(parse(made.to_json()))[0] == made


def test_what_is_sent_is_what_was_meant() -> None:
    made = request(image=PNG, steps=12, strength=0.5, negative_prompt="dog", sampler="k_euler_a", count=3)
    assert Request.from_fields(json.loads(made.to_json()))[0] == made
