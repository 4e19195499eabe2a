"""Pictures out: the file of a reply, the JPEG of a preview."""

import contextlib
import io
from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stablediffusiond import picture_formats
from stablediffusiond.errors import ModelError, OutOfMemory
from stablediffusiond.picture_formats import Format
from stablediffusiond.pictures.metadata import Metadata, as_exif, as_png_chunks, fitting_jpeg

_NOTHING: Final = Metadata()
#: How hard a WebP that loses nothing is looked for a smaller one, of 100; 1024 x 1024 take about a second.
_EFFORT: Final = 75


def encode_preview(pixels: NDArray[np.uint8]) -> bytes:
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


def encode(
    pixels: NDArray[np.uint8], picture_format: Format = "png", quality: int | None = None, says: Metadata = _NOTHING
) -> bytes:
    """A file of ``pixels`` (H, W, 3) uint8 that ``says`` how it was drawn; the same arguments give the same bytes.

    A JPEG says as much of it as ``fitting_jpeg``.

    Raises:
        ModelError, OutOfMemory: Pillow cannot make one.
    """
    out = io.BytesIO()
    quality = picture_formats.QUALITY if quality is None else quality
    with _as_job_errors():
        picture = Image.fromarray(pixels, "RGB")
        match picture_format:
            case "png":
                picture.save(out, format="PNG", compress_level=6, pnginfo=as_png_chunks(says))
            case "jpeg":
                picture.save(out, format="JPEG", quality=quality, exif=as_exif(fitting_jpeg(says)))
            case "webp":
                lossless = quality == picture_formats.LOSSLESS
                effort = _EFFORT if lossless else quality  # Pillow has one argument for both
                picture.save(out, format="WEBP", quality=effort, lossless=lossless, exif=as_exif(says))
    return out.getvalue()


def at_size(pixels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """``pixels``, (H, W, 3) uint8, at ``size``, a width and a height.

    Raises:
        OutOfMemory: there is no memory for it.
    """
    if pixels.shape[1::-1] == size:
        return pixels
    with _as_job_errors():
        return np.asarray(Image.fromarray(pixels, "RGB").resize(size, Image.Resampling.LANCZOS))


@contextlib.contextmanager
def _as_job_errors() -> Iterator[None]:
    try:
        yield
    except MemoryError as error:
        raise OutOfMemory(f"this machine has no memory for the picture's file: {error}") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"the picture cannot be encoded: {error}") from error
