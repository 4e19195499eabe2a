"""Pictures in and out, by Pillow: the init image of a request, the PNG of a reply."""

import contextlib
import io
import struct
import warnings
from collections.abc import Iterator
from typing import Final

from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from stablediffusiond.engine.job import Pixels
from stablediffusiond.errors import InvalidRequest, ModelError, OutOfMemory, TooLarge

_FORMATS: Final = ("PNG", "JPEG", "WEBP")
#: An init image is shrunk anyway; beyond this it is not decoded, however small its file is: it would take 100 MB.
MAX_INIT_PIXELS: Final = 20_000_000
#: These cannot be shrunk before they are converted: a mean of two palette entries is no colour.
_NOT_SHRUNK: Final = frozenset({"1", "P", "PA", "I", "I;16", "I;16B", "F"})
#: EXIF's orientations of a picture that lies on its side. A file may say anything, also what is no number.
_LYING: Final = frozenset({5, 6, 7, 8})
#: What Pillow's decoders raise for broken files.
_BROKEN: Final = (OSError, SyntaxError, ValueError, TypeError, ArithmeticError, LookupError, EOFError, struct.error)


def open_init_image(data: bytes, width: int, height: int) -> Image.Image:
    """The picture in ``data`` as RGB, upright, resized to ``width`` x ``height`` pixels.

    Raises:
        InvalidRequest: no PNG, JPEG or WebP, or a broken one.
        TooLarge: more pixels than anybody needs.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large pictures, whose size is looked at, and of EXIF that is none
            return _open(data, width, height)
    except UnidentifiedImageError:
        raise InvalidRequest("'image' is no PNG, JPEG or WebP", field="image") from None
    except Image.DecompressionBombError:
        raise TooLarge(f"the image has too many pixels; at most {MAX_INIT_PIXELS} are opened", field="image") from None
    except _BROKEN as error:
        raise InvalidRequest(f"'image' is broken: {error}", field="image") from None


def _open(data: bytes, width: int, height: int) -> Image.Image:
    picture = Image.open(io.BytesIO(data), formats=_FORMATS)
    if picture.format == "JPEG" and not picture.info.get("progressive"):
        side = 2 * max(width, height)
        picture.draft("RGB", (side, side))  # decoded at a fraction of its size, row by row
    if picture.width * picture.height > MAX_INIT_PIXELS:
        size = f"{picture.width}x{picture.height}"
        raise TooLarge(f"the image has {size} pixels; at most {MAX_INIT_PIXELS} are opened", field="image")
    if picture.mode in _NOT_SHRUNK:
        shrinkable: Image.Image = picture.convert("RGB")
    else:
        shrinkable = picture
    lies = picture.getexif().get(ExifTags.Base.Orientation, 1) in _LYING
    small = shrinkable.resize((height, width) if lies else (width, height), Image.Resampling.LANCZOS)
    return ImageOps.exif_transpose(small).convert("RGB")


def encode_preview(pixels: Pixels) -> bytes:
    """A small JPEG, a quarter of the picture's size, of what there is for each latent: (H/8, W/8, 3) uint8.

    Raises:
        ModelError, OutOfMemory: Pillow cannot make one.
    """
    height, width, _ = pixels.shape
    out = io.BytesIO()
    with _as_job_errors():
        larger = Image.fromarray(pixels, "RGB").resize((2 * width, 2 * height), Image.Resampling.BICUBIC)
        larger.save(out, format="JPEG", quality=80)
    return out.getvalue()


def encode_png(pixels: Pixels) -> bytes:
    """A PNG of ``pixels`` (H, W, 3) uint8; the same pixels give the same bytes.

    Raises:
        ModelError, OutOfMemory: Pillow cannot make one.
    """
    out = io.BytesIO()
    with _as_job_errors():
        Image.fromarray(pixels, "RGB").save(out, format="PNG", compress_level=6)
    return out.getvalue()


@contextlib.contextmanager
def _as_job_errors() -> Iterator[None]:
    try:
        yield
    except MemoryError as error:
        raise OutOfMemory(f"this machine has no memory for the picture's file: {error}") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"the picture cannot be encoded: {error}") from error
