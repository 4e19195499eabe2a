"""LoRAs as people write them: in prompts, and as a field of AI Horde, stable-diffusion.cpp, ComfyUI and diffusers."""

import json
from typing import Any

import pytest

from stablediffusiond.errors import InvalidRequest
from stablediffusiond.messages.loras import LoraUse, as_tags, in_prompt, without_tags
from stablediffusiond.messages.request import Request


@pytest.mark.parametrize(
    ("prompt", "found", "rest"),
    [
        ("a cat", [], "a cat"),
        ("a <lora:ink:0.8> cat", [LoraUse(name="ink", scale=0.8)], "a  cat"),
        ("<lora:ink>", [LoraUse(name="ink")], ""),
        ("<lora:ink:-1><LORA: wool : 2 >", [LoraUse(name="ink", scale=-1), LoraUse(name="wool", scale=2)], ""),
        ("<lora:ink:0.5:0.8>", [LoraUse(name="ink", scale=0.8, text_encoder_scale=0.5)], ""),
        ("<lora:ink:te=0.5:unet=0.8>", [LoraUse(name="ink", scale=0.8, text_encoder_scale=0.5)], ""),
        ("<lora:ink:unet=0.8>", [LoraUse(name="ink", scale=0.8, text_encoder_scale=1)], ""),
        ("<lyco:ink:0.5>", [LoraUse(name="ink", scale=0.5)], ""),
        ("<lora:styles/ink.safetensors:0.5>", [LoraUse(name="ink", scale=0.5)], ""),
        ("a <b> c <lora", [], "a <b> c <lora"),
    ],
)
def test_in_a_prompt(prompt: str, found: list[LoraUse], rest: str) -> None:
    assert in_prompt(prompt) == found
    assert without_tags(prompt) == rest


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("<lora:ink:much>", "must be numbers"),
        ("<lora:ink:nan>", "must be numbers"),
        ("<lora:ink:100>", "from -10 to 10"),
        ("<lora::1>", "has no name"),
        ("<hypernet:ink:1>", "hypernetworks are not applied"),
    ],
)
def test_in_a_prompt_wrongly(prompt: str, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said) as caught:
        Request.from_fields({"prompt": prompt})
    assert caught.value.field == "prompt"


INK = LoraUse(name="ink", scale=0.8)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([{"name": "ink", "scale": 0.8}], [INK]),
        ({"name": "ink", "scale": "0.8"}, [INK]),
        (["ink:0.8"], [INK]),
        ("ink=0.8", [INK]),
        ("ink", [LoraUse(name="ink")]),
        # AI Horde
        ([{"name": "ink", "model": 0.8, "clip": 0.5, "is_version": False, "inject_trigger": ""}],
         [LoraUse(name="ink", scale=0.8, text_encoder_scale=0.5)]),
        # stable-diffusion.cpp
        ([{"path": "loras/ink.safetensors", "multiplier": 0.8, "is_high_noise": False}], [INK]),
        # ComfyUI's node
        ([{"lora_name": "ink.safetensors", "strength_model": 0.8, "strength_clip": 0.5}],
         [LoraUse(name="ink", scale=0.8, text_encoder_scale=0.5)]),
        # diffusers
        ([{"adapter_name": "ink", "weight": 0.8}], [INK]),
        # as replies have them
        ("<lora:ink:0.8><lora:wool:0.5:1>", [INK, LoraUse(name="wool", scale=1, text_encoder_scale=0.5)]),
        ([], []),
    ],
)  # fmt: skip
def test_as_a_field(given: Any, expected: list[LoraUse]) -> None:
    for name in ("loras", "lora"):
        request, warnings = Request.from_fields({"prompt": "a cat", name: given})
        assert request.chosen_loras() == expected
        assert warnings == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (3, "must be a list like"),
        ([[]], "must be a list like"),
        ([{"scale": 1}], "has no name"),
        ([{"name": " "}], "has no name"),
        ([{"name": 3}], "has no name"),
        ([{"name": "ink", "scale": "much"}], "must be numbers"),
        ([{"name": "ink", "scale": True, "weight": 2}], "mean the same and differ"),
        ([{"name": "ink", "colour": 1}], "knows no 'colour'"),
        ([{"name": "ink", "inject_trigger": "any"}], "'inject_trigger' of 'loras' asks for something"),
        ([{"name": "x" * 201}], "at most 200 letters"),
    ],
)
def test_as_a_field_wrongly(given: Any, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said) as caught:
        Request.from_fields({"prompt": "a cat", "loras": given})
    assert caught.value.field == "loras"


def test_it_goes_over_the_wire_as_it_came() -> None:
    request, _ = Request.from_fields({"prompt": "<lora:wool:0.3>a cat", "loras": ["ink:0.8"]})
    again, _ = Request.from_fields(json.loads(request.to_json()))
    assert again == request
    assert [use.name for use in again.chosen_loras()] == ["wool", "ink"]


def test_tags_say_what_was_asked_for() -> None:
    uses = [INK, LoraUse(name="wool", scale=1, text_encoder_scale=0.5)]
    assert in_prompt(as_tags(uses)) == uses
