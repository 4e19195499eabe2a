"""The transparent parts of a picture as a mask of its own: other programs have their masks so."""

import io

from PIL import Image

from stablediffusiond.pictures.colours import clear_parts
from stablediffusiond.pictures.opening import open_at


def mask_of(data: bytes) -> bytes | None:
    """A PNG of its size, white where the picture's file ``data`` is transparent; None if it is nowhere.

    Raises:
        InvalidRequest, TooLarge, OutOfMemory: as ``open_at``.
    """
    mask = open_at(data, lambda size: size, _clear_parts)
    if mask.getbbox() is None:
        return None
    file = io.BytesIO()
    mask.save(file, "PNG", compress_level=1)
    return file.getvalue()


def _clear_parts(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    found = clear_parts(picture, size)
    return Image.new("L", size) if found is None else found
