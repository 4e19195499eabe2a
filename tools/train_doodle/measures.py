"""What a picture has of the style of the LoRA, and how well it follows an outline, as numbers."""

from typing import Final

import numpy as np
from PIL import Image

from tools.train_doodle.outlines import silhouette

#: The brightest channel of what counts as black in part, of 255; of what counts as black altogether it is 0.
_DARK: Final = 200


def ink(picture: Image.Image) -> float:
    """How much of ``picture`` is black, from 0 to 1; what is dark counts in part."""
    brightest = np.asarray(picture, np.float64).max(axis=2)
    return float(np.clip(1 - brightest / _DARK, 0, 1).mean())


def overlap(picture: Image.Image, other: Image.Image) -> float:
    """What two pictures show lies over each other: shared area by area of both, from 0 to 1."""
    shown, others = (np.asarray(silhouette(each)) > 0 for each in (picture, other))
    return float((shown & others).sum() / max(1, (shown | others).sum()))
