"""What makes a picture for a ControlNet out of an ordinary one: A1111's names, and the numbers that go with them.

Only those that need no network of their own. Only names live here, so that a client can check one without OpenCV;
``pictures/preprocessing.py`` does the work.
"""

import difflib
import re
from dataclasses import dataclass
from typing import Final

from stablediffusiond.errors import InvalidRequest


@dataclass(frozen=True)
class Number:
    """One that a preprocessor takes, in the units of A1111's."""

    default: float
    least: float
    most: float


_GREY: Final = 255

#: Name -> its numbers, ``low`` and ``high``.
NUMBERS: Final[dict[str, tuple[Number, ...]]] = {
    "canny": (Number(100, 1, _GREY), Number(200, 1, _GREY)),
    "scribble_xdog": (Number(32, 1, 64),),
    "lineart_standard": (),
    "threshold": (Number(127, 0, _GREY),),
    "binary": (Number(0, 0, _GREY),),
    "invert": (),
    "blur_gaussian": (Number(9, 0.01, 64),),
    "tile_resample": (Number(1, 1, 8),),
    "recolor_luminance": (Number(1, 0.1, 2),),
    "recolor_intensity": (Number(1, 0.1, 2),),
    "t2ia_color_grid": (),
}
NAMES: Final = tuple(NUMBERS)

#: Shorter, or as another program has it -> name.
_SPELLINGS: Final = {
    "scribble": "scribble_xdog", "xdog": "scribble_xdog", "lineart": "lineart_standard", "blur": "blur_gaussian",
    "gaussian_blur": "blur_gaussian", "tile": "tile_resample", "luminance": "recolor_luminance",
    "intensity": "recolor_intensity", "color": "t2ia_color_grid", "colour": "t2ia_color_grid",
    "color_grid": "t2ia_color_grid",
}  # fmt: skip
#: Beginnings of A1111's names for those that ask a network of their own, or that steer the model in another way.
_OF_NETWORKS: Final = (
    "animal_openpose", "anime_face", "clip_", "densepose", "depth", "dw_openpose", "facexlib", "hed", "inpaint",
    "instant_id", "ip_adapter", "lineart_", "mediapipe", "midas", "mlsd", "normal", "oneformer", "openpose", "pidinet",
    "reference", "revision", "scribble_", "seg", "shuffle", "softedge", "t2ia_", "te_hed", "tile_colorfix", "zoe",
)  # fmt: skip
#: What A1111's page puts behind some names.
_REMARK: Final = re.compile(r"\s*\(.*\)$")


def find(name: str) -> str | None:
    """The preprocessor that ``name`` means; None where it is for none, as A1111's "none".

    Raises:
        InvalidRequest: there is none of this name.
    """
    key = re.sub(r"[ -]", "_", _REMARK.sub("", name.strip()).lower())
    if key in {"", "none"}:
        return None
    if key in NUMBERS or key in _SPELLINGS:
        return _SPELLINGS.get(key, key)
    shown = repr(name[:100])
    if key.startswith(_OF_NETWORKS):
        raise InvalidRequest(f"the preprocessor {shown} needs more than the picture; there are {', '.join(NAMES)}")
    near = difflib.get_close_matches(key, (*NAMES, *_SPELLINGS), n=1)
    said = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(NAMES)}"
    raise InvalidRequest(f"there is no preprocessor {shown}{said}")


def numbers(name: str, low: float | None, high: float | None) -> tuple[float, ...]:
    """The numbers of the preprocessor ``name``: those given, else its own; what is given and not taken counts nothing.

    Raises:
        InvalidRequest: one is out of its bounds.
    """
    taken = []
    for number, given, field in zip(NUMBERS[name], (low, high), ("low", "high"), strict=False):
        value = number.default if given is None else given
        if not number.least <= value <= number.most:
            said = f"takes {number.least:g} to {number.most:g} as {field!r}, not {value:g}"
            raise InvalidRequest(f"the preprocessor {name!r} {said}")
        taken.append(value)
    if taken != sorted(taken):
        raise InvalidRequest(f"the preprocessor {name!r} takes a 'low' that is less than its 'high'")
    return tuple(taken)
