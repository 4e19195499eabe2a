"""What a picture shows: one subject of one colour, of some size at some place, on a plain ground."""

import hashlib
import random
from dataclasses import dataclass
from typing import Final

SUBJECTS: Final = (
    "circle", "square", "triangle", "star", "heart", "cat", "dog", "house", "tree", "flower", "fish", "car", "moon",
    "boat",
)  # fmt: skip
COLOURS: Final = {
    "red": (215, 40, 40),
    "orange": (245, 140, 30),
    "yellow": (250, 215, 50),
    "green": (45, 155, 65),
    "blue": (45, 85, 215),
    "purple": (130, 60, 180),
    "pink": (250, 155, 195),
    "brown": (125, 80, 45),
    "black": (25, 25, 30),
    "white": (247, 247, 247),
    "gray": (140, 142, 148),
    "cyan": (60, 205, 215),
}
SIZES: Final = ("normal", "small", "big")
PLACES: Final = ("middle", "left", "right", "top", "bottom")

#: What there is to know about a picture, by the names of `Scene`.
QUESTIONS: Final = {
    "subject": SUBJECTS, "colour": tuple(COLOURS), "ground": tuple(COLOURS), "size": SIZES, "place": PLACES
}  # fmt: skip

#: Half the height of a subject, as a share of the picture's: from, to.
_RADIUS: Final = {"normal": (0.28, 0.32), "small": (0.16, 0.19), "big": (0.38, 0.42)}
_DIRECTION: Final = {"middle": (0, 0), "left": (-1, 0), "right": (1, 0), "top": (0, -1), "bottom": (0, 1)}
#: How far from its place a subject may be, and how much of the picture stays free at its edge.
_WANDER, _MARGIN = 0.025, 0.03
#: One of this many triples of subject, colour and ground is never trained on.
_HELD_OUT_OF: Final = 8


@dataclass(frozen=True, slots=True)
class Scene:
    """One picture; ``x``, ``y`` (the subject's centre) and ``radius`` are shares of the picture's side."""

    subject: str
    colour: str
    ground: str
    size: str
    place: str
    x: float
    y: float
    radius: float

    @property
    def held_out(self) -> bool:
        """Whether evaluation alone may see this subject in this colour on this ground."""
        name = f"{self.subject}/{self.colour}/{self.ground}".encode()
        return hashlib.sha256(name).digest()[0] % _HELD_OUT_OF == 0


def any_scene(rng: random.Random, *, held_out: bool = False) -> Scene:
    """A scene at random: most are in the middle and of normal size; ``held_out`` says from which part."""
    while True:
        colour, ground = rng.sample(tuple(COLOURS), 2)
        size = rng.choices(SIZES, (6, 2, 2))[0]
        place = rng.choices(PLACES, (6, 1, 1, 1, 1))[0]
        radius = rng.uniform(*_RADIUS[size])
        x, y = _centre(rng, place, radius)
        scene = Scene(rng.choice(SUBJECTS), colour, ground, size, place, x, y, radius)
        if scene.held_out == held_out:
            return scene


def _centre(rng: random.Random, place: str, radius: float) -> tuple[float, float]:
    shift = 0.5 - _MARGIN - radius - _WANDER
    right, down = _DIRECTION[place]
    x, y = (0.5 + side * shift + rng.uniform(-_WANDER, _WANDER) for side in (right, down))
    return x, y
