"""What A1111's API says of its hires fix, in our words."""

from typing import Final

from stablediffusiond.errors import InvalidRequest
from stablediffusiond.messages.values import Body, asks_for_nothing, is_true, shown

#: Its field -> ours in ``hires``, and its values that leave it open, besides what is empty.
_FIELDS: Final[dict[str, tuple[str, tuple[object, ...]]]] = {
    "hr_scale": ("scale", ()),
    "hr_resize_x": ("width", ()),
    "hr_resize_y": ("height", ()),
    "hr_second_pass_steps": ("steps", ()),
    "hr_upscaler": ("upscaler", ()),
    "denoising_strength": ("strength", ()),
    "hr_sampler_name": ("sampler", ("use same sampler",)),
    "hr_cfg": ("guidance_scale", (1,)),  # Forge's; 1 is what it sends by itself
}
#: What else goes with it -> what it asks for, and its values that ask for nothing.
_REFUSED: Final[dict[str, tuple[str, tuple[object, ...]]]] = {
    "hr_checkpoint_name": ("another model in the second pass", ("use same checkpoint",)),
    "hr_prompt": ("another prompt in the second pass", ()),
    "hr_negative_prompt": ("another prompt in the second pass", ()),
    "hr_scheduler": ("another schedule in the second pass", ("use same scheduler",)),
    "hr_additional_modules": ("other modules in the second pass", ("use same choices",)),
}


def unfold(body: Body) -> Body:
    """``body`` with ``hires`` in place of A1111's fields, where ``enable_hr`` is set; else as it is.

    Raises:
        InvalidRequest: they ask for something that is not done here.
    """
    if not is_true(body.get("enable_hr")):
        return body
    rest = {name: value for name, value in body.items() if name not in {"enable_hr", *_FIELDS, *_REFUSED}}
    for name, (what, nothing) in _REFUSED.items():
        value = body.get(name)
        asked = value if isinstance(value, str | int | float) else [each for each in _list(value) if each]
        if not asks_for_nothing(asked, nothing):
            raise InvalidRequest(f"{name!r} asks for {what}, which is not done here: {shown(value)}", field=name)
    hires = {
        field: body[name]
        for name, (field, nothing) in _FIELDS.items()
        if name in body and not asks_for_nothing(body[name], nothing)
    }
    hires |= _of_old(rest)
    return {**rest, "hires": hires or True}


def _of_old(rest: Body) -> Body:
    """Before it had a scale, ``width`` and ``height`` were the picture's, and the first pass had a size of its own."""
    hires: Body = {}
    for name, side in (("firstphase_width", "width"), ("firstphase_height", "height")):
        first = rest.pop(name, None)
        if not asks_for_nothing(first) and side in rest:
            hires[side], rest[side] = rest[side], first
    return hires


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]
