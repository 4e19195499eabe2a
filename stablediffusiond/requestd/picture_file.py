"""The file of one drawn picture, in the format that its request asks for, with what it says of itself."""

from dataclasses import dataclass, field

from stablediffusiond.engine.job import Drawn
from stablediffusiond.messages import drawn_request, infotext_fields
from stablediffusiond.picture_formats import CONTENT_TYPES
from stablediffusiond.pictures.encoding import at_size, encode
from stablediffusiond.pictures.masks import Overlay
from stablediffusiond.pictures.metadata import Metadata, fitting_jpeg


@dataclass(frozen=True)
class PictureFile:
    data: bytes = field(repr=False)
    content_type: str
    warnings: list[str]


def make(drawn: Drawn, overlay: Overlay | None = None) -> PictureFile:
    """The same request gives the same bytes. ``overlay`` is what the picture lies on.

    Raises:
        ModelError, OutOfMemory: Pillow cannot make one.
    """
    request = drawn.task.request
    says = Metadata()
    if request.metadata:
        parameters = infotext_fields.write(request, drawn.facts)
        says = Metadata(parameters, drawn_request.to_json(request, drawn.facts))
    warnings = _left_out(says) if request.format == "jpeg" else []
    pixels = drawn.pixels if overlay is None else overlay.under(drawn.pixels)
    if request.type == "upscale":
        pixels = at_size(pixels, (drawn.facts.width, drawn.facts.height))
    data = encode(pixels, request.format, request.quality, says)
    return PictureFile(data, CONTENT_TYPES[request.format], warnings)


def _left_out(says: Metadata) -> list[str]:
    kept = fitting_jpeg(says)
    if kept == says:
        return []
    what = "the request in JSON" if kept.parameters else "the prompts"
    return [f"a jpeg has no room for {what} beside the picture; png and webp have"]
