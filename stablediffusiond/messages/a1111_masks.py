"""What A1111's API says of a mask, in our words."""

from typing import Final

from stablediffusiond.errors import InvalidRequest
from stablediffusiond.messages.values import Body, asks_for_nothing, is_true, shown

#: Its numbers, and the words of its page.
_FILLS: Final = {
    "0": "neighbours", "1": "original", "2": "noise", "3": "plain",
    "fill": "neighbours", "latent noise": "noise", "latent nothing": "plain",
}  # fmt: skip


def unfold(body: Body) -> list[tuple[str, object]]:
    """What the fields of ``body`` about its mask stand for; those are taken out of it.

    Raises:
        InvalidRequest: its edge is to be softer in one direction.
    """
    fields: list[tuple[str, object]] = []
    blurs = {name: body.pop(name) for name in ("mask_blur_x", "mask_blur_y") if name in body}
    if "mask_blur" not in body and blurs:
        if len({str(blur) for blur in blurs.values()}) > 1:
            said = "must be the same: an edge is as soft in one direction as in the other"
            raise InvalidRequest(f"'mask_blur_x' and 'mask_blur_y' {said}", field="mask_blur_y")
        fields.append(("mask_blur", next(iter(blurs.values()))))
    padding = body.pop("inpaint_full_res_padding", 0)
    if is_true(body.pop("inpaint_full_res", False)):
        fields.append(("mask_padding", 0 if asks_for_nothing(padding) else padding))
    for name in ("mask_fill", "inpainting_fill"):
        if name in body:
            body[name] = _FILLS.get(str(body[name]).strip().lower(), body[name])
    if "inpainting_mask_invert" in body:
        body["inpainting_mask_invert"] = _truth(body["inpainting_mask_invert"])
    return fields


def _truth(value: object) -> bool:
    if asks_for_nothing(value):
        return False
    if is_true(value):
        return True
    raise InvalidRequest(f"'inpainting_mask_invert' must be 0 or 1, not {shown(value)}", field="inpainting_mask_invert")
