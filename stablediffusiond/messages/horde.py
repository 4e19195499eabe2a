"""Bodies as clients of AI Horde send them: an object ``params`` inside, and one text for both prompts.

Source: https://aihorde.net/api, GenerationInputStable
"""

from typing import Final

from stablediffusiond.errors import InvalidRequest
from stablediffusiond.messages.values import Body, asks_for_nothing, is_true, shown

#: Between the prompt and the negative prompt.
_SEPARATOR: Final = "###"
#: About its workers, its money and its users, and none of the picture.
_OF_ITS_SERVICE: Final = frozenset(
    {
        "allow_downgrade", "censor_nsfw", "disable_batching", "dry_run", "extra_slow_workers", "nsfw",
        "proxied_account", "r2", "replacement_filter", "shared", "slow_workers", "style", "trusted_workers",
        "validated_backends", "workers", "worker_blacklist",
    }
)  # fmt: skip
_OF_ITS_PARAMS: Final = frozenset({"return_control_map", "facefixer_strength", "seed_variation"})
#: What asks for another picture, unless it asks for nothing.
_REFUSED: Final = frozenset(
    {"extra_source_images", "extra_texts", "post_processing", "special", "tis", "transparent", "webhook", "workflow"}
)
#: The shorter side of the first of two passes, as its workers have it.
_FIRST_SIDE: Final = 512
_MULTIPLE: Final = 64


def unfold(body: Body, warnings: list[str]) -> Body:
    """``body`` with what is in ``params`` beside the rest, if it has one; what is ignored is named in ``warnings``.

    Raises:
        InvalidRequest: it asks for something that is not done here.
    """
    params = body.get("params")
    if not isinstance(params, dict):
        return body
    fields: Body = {name: value for name, value in {**body, **params}.items() if name != "params" and value is not None}
    for name in _REFUSED & fields.keys():
        if not asks_for_nothing(value := fields.pop(name)):
            raise InvalidRequest(f"{name!r} asks for what is not done here: {shown(value)}", field=name)
    if ignored := sorted((_OF_ITS_SERVICE | _OF_ITS_PARAMS) & fields.keys()):
        warnings.append(f"of AI Horde's API these change nothing here: {', '.join(map(repr, ignored))}")
    fields = {name: value for name, value in fields.items() if name not in ignored}
    ours = {**_prompts(fields), **_schedule(fields), **_passes(fields), **_control(fields)}
    return {**fields, **ours}


def _prompts(fields: Body) -> Body:
    prompt = fields.get("prompt")
    if not isinstance(prompt, str) or _SEPARATOR not in prompt or "negative_prompt" in fields:
        return {}
    wanted, _, unwanted = prompt.partition(_SEPARATOR)
    return {"prompt": wanted.strip(), "negative_prompt": unwanted.strip()}


def _schedule(fields: Body) -> Body:
    """``karras`` is of the sampler, and true by itself; here it counts where both are said."""
    karras = fields.pop("karras", None)
    return {"scheduler": "karras"} if is_true(karras) and "sampler_name" in fields else {}


def _passes(fields: Body) -> Body:
    """``hires_fix``: width and height are the picture's, and the first pass is smaller, if that is large enough."""
    asked, strength = fields.pop("hires_fix", False), fields.pop("hires_fix_denoising_strength", None)
    width, height = fields.get("width"), fields.get("height")
    if not is_true(asked) or not isinstance(width, int) or not isinstance(height, int):
        return {}
    if min(width, height) <= _FIRST_SIDE:
        return {}
    scale = _FIRST_SIDE / min(width, height)
    first = {name: round(side * scale / _MULTIPLE) * _MULTIPLE for name, side in (("width", width), ("height", height))}
    hires: Body = {"width": width, "height": height}
    return {**first, "hires": hires if strength is None else {**hires, "strength": strength}}


def _control(fields: Body) -> Body:
    """``control_type`` is a ControlNet's name, and how its picture is made of the image, unless it is one already."""
    kind, ready = fields.pop("control_type", None), is_true(fields.pop("image_is_control", False))
    if asks_for_nothing(kind):
        return {}
    return {"control": [{"model": kind, **({} if ready else {"preprocessor": kind})}]}
