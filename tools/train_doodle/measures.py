"""What a picture has of the style of the LoRA, and how well it follows an outline, as numbers."""

from typing import Final

import numpy as np
from PIL import Image

from tools.train_doodle.outlines import silhouette

_WHITE: Final = 255


def blackness(picture: Image.Image) -> float:
    """That of HWB, the mean over ``picture``, from 0 to 1: https://www.w3.org/TR/css-color-4/#the-hwb-notation"""
    return float(1 - np.asarray(picture, np.float64).max(axis=2).mean() / _WHITE)


def ink(picture: Image.Image, plain: Image.Image) -> float:
    """How much blacker ``picture`` is than ``plain``, the same without it: a line half as wide, or gray, is half."""
    return blackness(picture) - blackness(plain)


def overlap(picture: Image.Image, other: Image.Image) -> float:
    """What two pictures show lies over each other: shared area by area of both, from 0 to 1."""
    shown, others = (np.asarray(silhouette(each)) > 0 for each in (picture, other))
    return float((shown & others).sum() / max(1, (shown | others).sum()))
