"""What a request leaves open is the model's to choose, and what a model has no use for is a warning."""

from pathlib import Path
from typing import Any

import pytest

from stablediffusiond.engine.arguments import Arguments
from stablediffusiond.engine.model_defaults import defaults_of
from stablediffusiond.engine.tasks import pipelines_by_task
from stablediffusiond.errors import InvalidRequest
from stablediffusiond.messages.request import Request
from tests.engine.families import FAMILIES

Fields = dict[str, Any]


def arguments_of(family: str, scratch: Path, name: str = "tiny", **settings: Any) -> Arguments:
    pipeline = FAMILIES[family].make(scratch)
    return Arguments(pipelines_by_task(pipeline), defaults_of(pipeline, name, **settings))


@pytest.mark.parametrize(
    ("family", "steps", "guidance", "guidance_of_img2img"),
    [
        ("Stable Diffusion 1", 50, 7.5, 5.0),
        ("Stable Diffusion XL", 50, 5.0, 5.0),
        ("Stable Diffusion 3", 28, 7.0, 5.0),
        ("latent consistency", 4, 8.5, 8.5),
        ("FLUX.1 dev", 28, 3.5, 3.5),
        ("Qwen-Image", 50, 4.0, 4.0),
    ],
)
def test_they_are_those_of_its_pipeline(
    family: str, steps: int, guidance: float, guidance_of_img2img: float, tmp_path: Path
) -> None:
    arguments = arguments_of(family, tmp_path)
    request, warnings = arguments.complete(Request(prompt="cat"))
    assert (request.steps, request.guidance_scale, warnings) == (steps, guidance, [])
    with_image, _ = arguments.complete(Request(prompt="cat", type="img2img", image=b"opened already"))
    assert with_image.guidance_scale == guidance_of_img2img
    asked, _ = arguments.complete(Request(prompt="cat", steps=3, guidance_scale=2))
    assert (asked.steps, asked.guidance_scale) == (3, 2)


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        ("stabilityai/sdxl-turbo", 4), ("/models/SDXL-Lightning-8step.safetensors", 8), ("FLUX.1-schnell", 4),
        ("dreamshaper-lcm", 4), ("Hyper-SDXL-1step", 1), ("hyperrealism_v3", 50), ("calcmodel", 50), ("turbo/plain", 50),
    ],
)  # fmt: skip
def test_models_of_few_steps_are_known_by_their_names(name: str, steps: int, tmp_path: Path) -> None:
    request, _ = arguments_of("Stable Diffusion XL", tmp_path, name).complete(Request(prompt="cat"))
    assert (request.steps, request.guided) == (steps, steps == 50)


def test_settings_go_before_what_is_known(tmp_path: Path) -> None:
    arguments = arguments_of("Stable Diffusion 1", tmp_path, "sd-turbo", steps=2, guidance_scale=1.5)
    request, _ = arguments.complete(Request(prompt="cat", type="img2img", image=b"opened already"))
    assert (request.steps, request.guidance_scale) == (2, 1.5)


@pytest.mark.parametrize(
    ("family", "fields", "warned"),
    [
        ("FLUX.1 dev", {"negative_prompt": "ugly"}, "no use for 'negative_prompt'"),
        ("FLUX.2 klein", {"negative_prompt": "ugly"}, "no use for 'negative_prompt'"),
        ("Stable Diffusion 1", {"negative_prompt": "ugly", "guidance_scale": 1}, "only looked at under guidance"),
        ("Stable Diffusion 3", {"eta": 0.5}, "no use for 'eta'"),
        ("FLUX.1 Kontext", {"image": b"x", "type": "img2img", "strength": 0.5}, "no use for 'strength'"),
        ("FLUX.1 dev", {"width": 72}, "'width' 72 became 64"),
    ],
)
def test_what_a_model_has_no_use_for_is_a_warning(family: str, fields: Fields, warned: str, tmp_path: Path) -> None:
    arguments = arguments_of(family, tmp_path)
    assert [warning for warning in arguments.complete(Request(prompt="cat", **fields))[1] if warned in warning]
    assert not arguments.complete(Request(prompt="cat"))[1]


@pytest.mark.parametrize(
    ("family", "task"), [("PixArt", "img2img"), ("FLUX.1 Fill", "txt2img"), ("Stable Diffusion 1 inpainting", "txt2img")]
)
def test_a_task_that_a_model_is_not_for_is_refused(family: str, task: str, tmp_path: Path) -> None:
    given: Fields = {"image": b"x"} if task == "img2img" else {}
    with pytest.raises(InvalidRequest, match="cannot be used for") as caught:
        arguments_of(family, tmp_path).complete(Request(prompt="cat", type=task, **given))
    assert caught.value.field == "type"
