"""Requests like the one that a picture's file says."""

import io
from pathlib import Path

import numpy as np
import pytest

from stablediffusiond.client import like
from stablediffusiond.client.core import asked
from stablediffusiond.errors import InvalidRequest
from stablediffusiond.messages.request import Request
from stablediffusiond.pictures.encoding import encode
from stablediffusiond.pictures.metadata import Metadata
from tests.messages.drawn import drawn
from tests.requestd.test_picture_file import made

PIXELS = np.zeros((64, 128, 3), np.uint8)
INIT = encode(PIXELS)


def picture_of(picture_format: str = "png", **fields: object) -> bytes:
    return made(format=picture_format, **fields).data


def of(data: object, **own: object) -> Request:
    request, warnings = like.request(data, own)
    assert not warnings
    return request


def refusal(data: object, **own: object) -> str:
    with pytest.raises(InvalidRequest) as caught:
        like.request(data, own)
    return str(caught.value)


FIELDS: dict[str, object] = {
    "subseed": 2**60, "subseed_strength": 0.3, "tiling": True, "guidance_rescale": 0.7,
    "prompt": "(red:1.2) cat\n", "negative_prompt": "Negative prompt: dog", "sampler": "DPM++ 2M Karras", "clip_skip": 2,
    "loras": ["ink:0.5"], "steps": 7, "guidance_scale": 3.5, "seed": 2**63, "eta": 0.5, "model": "doodle",
}  # fmt: skip


@pytest.mark.parametrize("picture_format", ["png", "jpeg", "webp"])
@pytest.mark.parametrize(
    "of_the_picture", [{}, {"prompt_syntax": "plain"}, {"image": INIT}, {"image": INIT, "mask": INIT}]
)
def test_the_request_comes_back_whole(picture_format: str, of_the_picture: dict[str, object]) -> None:
    fields = {**FIELDS, **of_the_picture}
    request, _ = drawn(**fields, format=picture_format)  # type: ignore[arg-type]
    images = {name: value for name, value in of_the_picture.items() if name in {"image", "mask"}}
    again = of(picture_of(picture_format, **fields), id="mine", **images)
    assert again.model_dump() == {**request.model_dump(), "model": "doodle"}


def test_a_new_job_has_a_name_of_its_own() -> None:
    data = picture_of(id="old", priority="high", deadline_seconds=5)
    again = of(data)
    assert again.id != "old"
    assert (again.priority, again.deadline_seconds, again.seed) == ("normal", None, 42)
    assert of(data, seed=-1).seed != 42


def test_what_stands_beside_it_wins_in_any_spelling() -> None:
    data = picture_of(steps=7, guidance_scale=3, sampler="DDIM", model="other")
    again = of(data, ddim_steps=9, cfg_scale="4", n_samples=2, scheduler="k_euler", prompt="a dog", model="")
    assert (again.steps, again.guidance_scale, again.count, again.sampler) == (9, 4, 2, "Euler")
    assert (again.prompt, again.model, again.seed) == ("a dog", None, 42)


def test_another_format_has_no_use_for_the_files_quality() -> None:
    data = picture_of("jpeg", quality=50)
    assert (of(data).format, of(data).quality) == ("jpeg", 50)
    assert (of(data, format="png").format, of(data, format="png").quality) == ("png", None)
    assert of(data, format="webp", quality=60).quality == 60


def test_a_text_of_a1111_is_taken() -> None:
    text = "a cat\nSteps: 7, Sampler: Euler a, CFG scale: 3, Seed: 5, Size: 512x768, Denoising strength: 0.5, RNG: CPU"
    data = encode(PIXELS, "webp", says=Metadata(text))
    request, warnings = like.request(data, {})
    assert (request.prompt, request.seed, request.width, request.height, request.type) == (
        "a cat",
        5,
        512,
        768,
        "txt2img",
    )
    assert warnings == ["of 'like' this is not taken: strength (it needs an image)"]
    assert (of(data, image=INIT).strength, of(data, image=INIT).type) == (0.5, "img2img")


def test_what_a_text_says_of_a_mask_needs_one() -> None:
    text = "a cat\nSteps: 7, Sampler: Euler a, Seed: 5, RNG: CPU, Mask blur: 4, Inpaint area: Only masked"
    data = encode(PIXELS, says=Metadata(text))
    told = "mask_padding (it needs a mask), mask_blur (it needs a mask)"
    assert like.request(data, {})[1] == [f"of 'like' this is not taken: {told}"]
    inpainted = of(data, image=INIT, mask=INIT)
    assert (inpainted.mask_blur, inpainted.mask_padding) == (4, 32)


def test_controlnets_go_by_the_image_that_is_given_again() -> None:
    data = picture_of(image=INIT, control=[{"model": "depth"}, {"model": "canny", "image": INIT}])
    request, warnings = like.request(data, {"image": INIT})
    assert [use.model for use in request.control] == ["depth"]
    assert warnings == ["of 'like' this is not taken: the ControlNet 'canny', whose image is not in it"]
    given = [{"model": "canny", "image": INIT}]
    assert [use.model for use in of(data, image=INIT, control=given).control] == ["canny"]
    data = picture_of(control=[{"model": "canny", "image": INIT}])
    assert like.request(data, {})[0].control == ()


def test_a_mask_stands_over_the_images_own() -> None:
    data = picture_of(image=INIT, mask_from_alpha=True)
    assert of(data, image=INIT).mask_from_alpha
    assert not of(data, image=INIT, mask=INIT).mask_from_alpha


def test_the_image_that_a_picture_was_drawn_after_has_to_come_again(tmp_path: Path) -> None:
    file = tmp_path / "cat.png"
    file.write_bytes(picture_of(image=INIT, strength=0.5))
    assert refusal(file).startswith(f"'{file}': give the image that it was drawn after (sha256:")
    assert of(file, image=INIT).strength == 0.5
    other = encode(PIXELS + 1)
    assert like.request(file, {"image": other})[1] == [f"'{file}' was drawn after another image"]
    assert "give the mask" in refusal(picture_of(image=INIT, mask=INIT), image=INIT)


def test_a_txt2img_may_go_on_from_an_image() -> None:
    assert of(picture_of(), image=INIT).type == "img2img"


def test_a_path_an_open_file_and_bytes_are_files(tmp_path: Path) -> None:
    file = tmp_path / "cat.png"
    file.write_bytes(picture_of())
    with file.open("rb") as opened:
        for each in (file, str(file), opened, io.BytesIO(file.read_bytes()), memoryview(file.read_bytes())):
            assert of(each, id="x") == of(file.read_bytes(), id="x")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (Path("/nowhere/cat.png"), "'/nowhere/cat.png' cannot be read: No such file or directory"),
        ("a\0b", "cannot be read"),
        (7, "'like' must be a path, a file that is open for reading, or the bytes of a file"),
        (io.StringIO("text"), "open the file in binary mode"),
        (b"text", "'like' is no PNG"),
        (encode(PIXELS), "'like' does not say how it was drawn"),
        (encode(PIXELS, says=Metadata("a note")), "'like': it does not say how it was drawn"),
        (encode(PIXELS, says=Metadata(request="{")), "'like': the request in it cannot be read: the body is not JSON"),
        (encode(PIXELS, says=Metadata(request='{"prompt": 7, "loras": {"a": []}}')), "'loras'"),
        (encode(PIXELS, says=Metadata(request='{"seed": 1}')), "'prompt' is required"),
    ],
)
def test_a_file_that_says_nothing_to_draw_is_a_clear_error(data: object, said: str) -> None:
    assert said in refusal(data)


def test_a_hostile_file_chooses_nothing_but_the_picture() -> None:
    hostile = '{"prompt": "cat", "id": "mine", "count": 9, "priority": "high", "image": "sha256:' + "x" * 1000 + '"}'
    data = encode(PIXELS, says=Metadata(request=hostile))
    assert len(refusal(data)) < 300
    request, warnings = like.request(data, {"image": INIT})
    assert (request.count, request.priority) == (1, "normal")
    assert request.id != "mine"
    assert warnings == [
        "of 'like' this is not taken: 'id', 'count', 'priority'", "'like' was drawn after another image",
    ]  # fmt: skip


def test_a_program_gives_it_as_a_field_and_a_message_cannot() -> None:
    what = asked(None, {"like": picture_of(), "prompt": "a dog"})
    assert (what.request.prompt, what.request.seed, what.is_nameless) == ("a dog", 42, True)
    with pytest.raises(InvalidRequest, match="unknown field 'like'"):
        asked({"prompt": "cat", "like": "/etc/passwd"}, {})


def test_ip_adapters_go_by_the_image_that_is_given_again() -> None:
    data = picture_of(image=INIT, ip_adapter=[{"name": "plain"}, {"name": "plus", "image": INIT}])
    request, warnings = like.request(data, {"image": INIT})
    assert [use.name for use in request.ip_adapter] == ["plain"]
    assert warnings == ["of 'like' this is not taken: the IP-Adapter 'plus', whose image is not in it"]
