"""Pictures out: the PNG of a reply, the JPEG of a preview."""

import contextlib
import io
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stablediffusiond.errors import ModelError, OutOfMemory


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


def encode_png(pixels: NDArray[np.uint8]) -> bytes:
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
