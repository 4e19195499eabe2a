"""A picture that came with a request: opened, upright, in sRGB on white, at the size that is drawn.

The bytes are untrusted: before each step its cost is checked (``bounds.py``).
"""

import contextlib
import io
import struct
import warnings
from collections.abc import Callable, Iterator
from typing import Final

from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    ExifTags,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from stablediffusiond.errors import InvalidRequest, OutOfMemory
from stablediffusiond.pictures import bounds, colours

Size = tuple[int, int]  #: width and height in pixels

#: What phones, cameras, editors and browsers write, and Pillow decodes with libraries that are fuzzed all year.
_PLUGINS: Final = (
    PngImagePlugin, JpegImagePlugin, MpoImagePlugin, WebPImagePlugin, AvifImagePlugin, GifImagePlugin, TiffImagePlugin,
    BmpImagePlugin,
)  # fmt: skip
FORMATS: Final = ("PNG", "JPEG", "WEBP", "AVIF", "GIF", "TIFF", "BMP")
NAMES: Final = "PNG, JPEG, WebP, AVIF, GIF, TIFF or BMP"

#: EXIF's orientations, and what turns each of them upright. A file may have any value there, also what is no number.
_UPRIGHT: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
#: Those of a picture that lies on its side.
_LYING: Final = frozenset({5, 6, 7, 8})
#: What Pillow's decoders raise for broken files; RuntimeError is libavif's.
_BROKEN: Final = (
    OSError, SyntaxError, ValueError, TypeError, ArithmeticError, LookupError, EOFError, struct.error, RuntimeError,
)  # fmt: skip


def open_init_image(data: bytes, width: int, height: int) -> Image.Image:
    """The picture in ``data`` as RGB, upright, resized to ``width`` x ``height`` pixels.

    Raises:
        InvalidRequest, TooLarge, OutOfMemory: as ``open_at``.
    """
    return open_at(data, lambda _: (width, height))


def open_alpha_at(data: bytes, size_for: Callable[[Size], Size]) -> Image.Image:
    """What is transparent in the picture in ``data`` as a mask, L: white is transparent.

    Raises:
        InvalidRequest: nothing is.
        Exception: as ``open_at``.
    """

    def clear(picture: Image.Image, size: Size) -> Image.Image:
        if (mask := colours.clear_parts(picture, size)) is None:
            raise InvalidRequest("'image' has no transparent parts that could be its mask", field="mask_from_alpha")
        return mask

    return open_at(data, size_for, clear)


def open_at(
    data: bytes,
    size_for: Callable[[Size], Size],
    resized: Callable[[Image.Image, Size], Image.Image] | None = None,
) -> Image.Image:
    """The picture in ``data`` as RGB, upright, at the size that ``size_for`` makes of its own, upright one.

    ``resized`` makes something else of it, if it is given.

    Raises:
        InvalidRequest, TooLarge, OutOfMemory: as ``opened``.
        Exception: what ``size_for`` raises.
    """
    with opened(data) as picture:
        return _open(picture, data, size_for, resized or colours.resized)


@contextlib.contextmanager
def opened(data: bytes) -> Iterator[Image.Image]:
    """The picture in ``data``, not decoded yet; what Pillow raises meanwhile is one of our errors.

    Raises:
        InvalidRequest: no picture in one of ``FORMATS``, or a broken one.
        TooLarge: more pixels, or more parts, than any request needs.
        OutOfMemory: this machine cannot hold it.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large pictures, whose size is looked at, and of EXIF that is none
            bounds.check_file(data)
            yield Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        raise InvalidRequest(f"'image' is no {NAMES}{bounds.what_else(data)}", field="image") from None
    except Image.DecompressionBombError:
        raise bounds.too_many_pixels() from None
    except MemoryError:
        raise OutOfMemory("this machine has no memory for 'image'; send a smaller one", field="image") from None
    except _BROKEN as error:
        raise InvalidRequest(f"'image' is broken: {error}", field="image") from None


def _open(
    picture: Image.Image,
    data: bytes,
    size_for: Callable[[Size], Size],
    resized: Callable[[Image.Image, Size], Image.Image],
) -> Image.Image:
    orientation = _orientation(picture)
    lies = orientation in _LYING
    width, height = size_for(picture.size[::-1] if lies else picture.size)
    size = (height, width) if lies else (width, height)
    if isinstance(picture, JpegImagePlugin.JpegImageFile):  # that of a phone may have several pictures: MPO
        bounds.check_jpeg(picture.size, data)
        picture.draft(None, (2 * size[0], 2 * size[1]))  # decoded at a fraction of its size
    bounds.check_decoded(picture)
    small = resized(picture, size)
    upright = small.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else small
    upright.info.clear()  # its orientation, profile and transparency are obeyed, and hold for it no more
    return upright


def _orientation(picture: Image.Image) -> int:
    if picture.format == "TIFF":
        return 1  # Pillow turns it while it loads it
    orientation = picture.getexif().get(ExifTags.Base.Orientation, 1)
    return orientation if isinstance(orientation, int) else 1
