import io
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from stablediffusiond.errors import JobError, ModelError, OutOfMemory
from stablediffusiond.pictures.encoding import encode, encode_preview


def test_the_same_pixels_are_the_same_bytes_and_nothing_is_lost() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (24, 16, 3), np.uint8)
    assert encode(pixels) == encode(pixels.copy())
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(encode(pixels)))), pixels)


@pytest.mark.parametrize("encode", [encode, encode_preview])
@pytest.mark.parametrize(("error", "told"), [(MemoryError(), OutOfMemory), (OSError("encoder error -2"), ModelError)])
def test_a_picture_that_cannot_be_encoded_is_its_jobs_affair(
    monkeypatch: pytest.MonkeyPatch,
    encode: Callable[[NDArray[np.uint8]], bytes],
    error: Exception,
    told: type[JobError],
) -> None:
    def failing(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(Image.Image, "save", failing)
    with pytest.raises(told):
        encode(np.zeros((8, 8, 3), np.uint8))
