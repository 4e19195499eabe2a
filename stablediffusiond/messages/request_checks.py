"""What concerns more than one field of a request."""

from typing import TYPE_CHECKING, Final

from stablediffusiond.errors import InvalidRequest
from stablediffusiond.messages.picture_use import GUIDES
from stablediffusiond.upscalers import BUILT_IN, OfLatents

if TYPE_CHECKING:
    from stablediffusiond.messages.request import Request

#: An upscale is of the image, by its scale, and nothing else.
_NOT_OF_UPSCALES: Final = ("control", "ip_adapter", "vae", "hires", "width", "height")


def check_whole(request: "Request") -> None:
    """Raise InvalidRequest for fields that do not go together."""
    _check_pictures(request)
    if request.type == "upscale":
        for name in _NOT_OF_UPSCALES:
            if getattr(request, name):
                raise InvalidRequest(f"upscale takes no {name!r}; 'scale' says how much larger", field=name)
        if isinstance(BUILT_IN.get(request.upscaler or ""), OfLatents):
            raise InvalidRequest(f"{request.upscaler} is for the second pass of 'hires'", field="upscaler")
        if request.count != 1:
            raise InvalidRequest("upscale makes one picture of one 'image'; leave 'count' out", field="count")
    else:
        for name in ("upscaler", "upscale_by"):
            if name in request.model_fields_set and getattr(request, name) is not None:
                said = "is for the type upscale; for a second pass, give 'hires' its 'upscaler' and 'scale'"
                raise InvalidRequest(f"{name!r} {said}", field=name)
    if request.hires is not None and request.type != "txt2img":
        raise InvalidRequest(f"{request.type} takes no 'hires'; it is for txt2img", field="hires")
    request.chosen_sampler()
    request.chosen_loras()


def _check_pictures(request: "Request") -> None:
    if request.type != "txt2img" and request.image is None:
        raise InvalidRequest(f"{request.type} needs an 'image'", field="image")
    if request.type == "txt2img" and request.image is not None:
        raise InvalidRequest("txt2img takes no 'image'; leave the type out or set it to img2img", field="image")
    if request.mask is not None and request.mask_from_alpha:
        raise InvalidRequest("'mask' and 'mask_from_alpha' are both given; send one", field="mask_from_alpha")
    if request.type == "inpaint" and not request.masked:
        raise InvalidRequest("inpaint needs a 'mask'", field="mask")
    if request.type != "inpaint" and request.masked:
        raise InvalidRequest(f"{request.type} takes no 'mask'; leave the type out or set it to inpaint", field="mask")
    for name, kind in GUIDES.items():
        if request.image is None and any(use.image is None for use in getattr(request, name)):
            raise InvalidRequest(f"{kind} of {name!r} needs an 'image'", field=name)
