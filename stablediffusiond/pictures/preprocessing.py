"""Pictures for ControlNets, made out of ordinary ones without any network: the only place that imports OpenCV.

Each does what A1111's preprocessor of its name does, which ControlNets were trained with, at the size that is drawn.
Source: the annotators of https://github.com/Mikubill/sd-webui-controlnet
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stablediffusiond.errors import OutOfMemory

Pixels = NDArray[np.uint8]  #: (H, W, 3), RGB
Grey = NDArray[np.uint8]  #: (H, W)

_WHITE: Final = 255
#: Pixels of a picture that are one of the colour grid's.
_GRID: Final = 64


def preprocessed(picture: Image.Image, name: str, numbers: Sequence[float]) -> Image.Image:
    """``picture``, RGB, as the preprocessor ``name`` makes it with its ``numbers``: RGB, of the same size.

    Raises:
        OutOfMemory: this machine cannot hold what it needs.
    """
    try:
        made = _WORK[name](np.asarray(picture), *numbers)
    except (MemoryError, cv2.error) as error:  # which it raises for nothing else here
        raise OutOfMemory("this machine has no memory for a preprocessor; draw a smaller picture") from error
    return Image.fromarray(made if made.ndim == 3 else cv2.cvtColor(made, cv2.COLOR_GRAY2RGB).astype(np.uint8))


def _canny(picture: Pixels, low: float, high: float) -> Grey:
    return np.asarray(cv2.Canny(picture, low, high), np.uint8)


def _scribble(picture: Pixels, threshold: float) -> Grey:
    """White where the difference of two Gaussians is larger, in all colours."""
    exact = picture.astype(np.float32)
    difference = (_blur(exact, 5.0) - _blur(exact, 0.5)).min(axis=2).clip(0, _WHITE)
    return _black_and_white(2 * np.ceil(difference) > threshold)


def _lineart(picture: Pixels) -> Grey:
    """White where a picture is darker than what is around, as lines on paper are."""
    exact = picture.astype(np.float32)
    darker = (_blur(exact, 6.0) - exact).min(axis=2).clip(0, _WHITE)
    clear = darker[darker > 8]
    usual = max(16.0, float(np.median(clear)) if clear.size else 0.0)
    return np.asarray((darker / usual * 127).clip(0, _WHITE), np.uint8)


def _threshold(picture: Pixels, threshold: float) -> Pixels:
    return _black_and_white(picture > threshold)


def _binary(picture: Pixels, threshold: float) -> Grey:
    """White where it is dark; at either end of its range the threshold is found by Otsu's method."""
    found = cv2.THRESH_OTSU if threshold in {0, _WHITE} else 0
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.threshold(grey, threshold, _WHITE, cv2.THRESH_BINARY_INV + found)[1], np.uint8)


def _invert(picture: Pixels) -> Pixels:
    return np.asarray(np.invert(picture), np.uint8)


def _tile(picture: Pixels, times: float) -> Pixels:
    """So many times smaller, and as large again."""
    height, width = picture.shape[:2]
    small = cv2.resize(picture, (int(width / times), int(height / times)), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def _luminance(picture: Pixels, gamma: float) -> Grey:
    return _with_gamma(cv2.cvtColor(picture, cv2.COLOR_RGB2LAB)[:, :, 0], gamma)


def _intensity(picture: Pixels, gamma: float) -> Grey:
    return _with_gamma(cv2.cvtColor(picture, cv2.COLOR_RGB2HSV)[:, :, 2], gamma)


def _grid(picture: Pixels) -> Pixels:
    """A grid of its colours."""
    height, width = picture.shape[:2]
    cells = max(width // _GRID, 1), max(height // _GRID, 1)
    small = cv2.resize(picture, cells, interpolation=cv2.INTER_CUBIC)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST), np.uint8)


def _blur(picture: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), sigma), np.float32)


def _blurred(picture: Pixels, sigma: float) -> Pixels:
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), sigma), np.uint8)


def _with_gamma(values: NDArray[np.generic], gamma: float) -> Grey:
    exact = values.astype(np.float32) / _WHITE
    return (exact**gamma * _WHITE).clip(0, _WHITE).astype(np.uint8)


def _black_and_white(white: NDArray[np.bool_]) -> NDArray[np.uint8]:
    return white.astype(np.uint8) * np.uint8(_WHITE)


_WORK: Final[Mapping[str, Callable[..., NDArray[np.uint8]]]] = {
    "canny": _canny,
    "scribble_xdog": _scribble,
    "lineart_standard": _lineart,
    "threshold": _threshold,
    "binary": _binary,
    "invert": _invert,
    "blur_gaussian": _blurred,
    "tile_resample": _tile,
    "recolor_luminance": _luminance,
    "recolor_intensity": _intensity,
    "t2ia_color_grid": _grid,
}
