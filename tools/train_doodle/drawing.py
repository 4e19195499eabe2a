"""Drawing a scene with Pillow, at twice the size and shrunk, which smooths the edges.

Each subject is a function over a `Sheet`, whose unit is the subject's radius; its origin is the centre, y downwards.
"""

import math
import random
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from tools.train_doodle.scenes import COLOURS, Scene

Colour = tuple[int, int, int]
Point = tuple[float, float]

_OVERSAMPLING: Final = 2
_COLOUR_WANDERS: Final = 6  # of 255, in each channel
_INK: Final = (15, 15, 20)
_PAPER: Final = (250, 250, 250)
_WOOD: Final = (85, 52, 28)
_GLASS: Final = (195, 228, 245)
_LIGHT: Final = (255, 236, 150)
_STALK: Final = (40, 120, 50)


class Sheet:
    """A picture to draw one subject on, with the colours that it is drawn in."""

    def __init__(self, scene: Scene, pixels: int, colour: Colour, ground: Colour) -> None:
        self.colour, self.ground = colour, ground
        self.shade = _shade(colour)
        self.image = Image.new("RGB", (pixels, pixels), ground)
        self._draw = ImageDraw.Draw(self.image)
        self._x, self._y, self._unit = scene.x * pixels, scene.y * pixels, scene.radius * pixels

    def ellipse(self, x: float, y: float, rx: float, ry: float, fill: Colour) -> None:
        left, top = self._at((x - rx, y - ry))
        right, bottom = self._at((x + rx, y + ry))
        self._draw.ellipse((left, top, right, bottom), fill=fill)

    def disc(self, x: float, y: float, radius: float, fill: Colour) -> None:
        self.ellipse(x, y, radius, radius, fill)

    def box(self, left: float, top: float, right: float, bottom: float, fill: Colour, *, rounded: float = 0.0) -> None:
        corners = (*self._at((left, top)), *self._at((right, bottom)))
        self._draw.rounded_rectangle(corners, radius=rounded * self._unit, fill=fill)

    def polygon(self, points: Sequence[Point], fill: Colour) -> None:
        self._draw.polygon([self._at(point) for point in points], fill=fill)

    def line(self, start: Point, end: Point, width: float, fill: Colour) -> None:
        self._draw.line((self._at(start), self._at(end)), fill=fill, width=max(2, round(width * self._unit)))

    def _at(self, point: Point) -> Point:
        return self._x + point[0] * self._unit, self._y + point[1] * self._unit


def draw(scene: Scene, rng: random.Random, pixels: int = 128) -> Image.Image:
    """The scene as an RGB picture, ``pixels`` wide and high; ``rng`` shifts its colours a little."""
    colour, ground = (_near(COLOURS[name], rng) for name in (scene.colour, scene.ground))
    sheet = Sheet(scene, pixels * _OVERSAMPLING, colour, ground)
    _SUBJECTS[scene.subject](sheet)
    return sheet.image.resize((pixels, pixels), Image.Resampling.LANCZOS)


def pixels_of(images: Sequence[Image.Image]) -> npt.NDArray[np.float32]:
    """Pictures of one size as a network takes them: (n, 3, height, width) from -1 to 1."""
    stacked = np.stack([np.asarray(image) for image in images])
    return np.ascontiguousarray(stacked.transpose(0, 3, 1, 2), np.float32) / np.float32(127.5) - np.float32(1)


def _near(colour: Colour, rng: random.Random) -> Colour:
    red, green, blue = (
        max(0, min(255, channel + rng.randint(-_COLOUR_WANDERS, _COLOUR_WANDERS))) for channel in colour
    )
    return red, green, blue


def _shade(colour: Colour) -> Colour:
    """A darker tone for what has to stand out; of dark colours a lighter one."""
    red, green, blue = colour
    if 299 * red + 587 * green + 114 * blue < 60_000:
        return red + 85, green + 85, blue + 85
    return int(red * 0.6), int(green * 0.6), int(blue * 0.6)


def _around(points: int, radius: float, *, inner: float | None = None, y: float = 0.0) -> list[Point]:
    """A regular polygon with one corner at the top; with ``inner`` a star."""
    radii = [radius] if inner is None else [radius, inner]
    corners = points * len(radii)
    turns = [2 * math.pi * place / corners - math.pi / 2 for place in range(corners)]
    return [
        (radii[place % len(radii)] * math.cos(turn), y + radii[place % len(radii)] * math.sin(turn))
        for place, turn in enumerate(turns)
    ]


def _circle(sheet: Sheet) -> None:
    sheet.disc(0, 0, 1, sheet.colour)


def _square(sheet: Sheet) -> None:
    sheet.box(-0.88, -0.88, 0.88, 0.88, sheet.colour)


def _triangle(sheet: Sheet) -> None:
    sheet.polygon([(0, -0.95), (1, 0.8), (-1, 0.8)], sheet.colour)


def _star(sheet: Sheet) -> None:
    sheet.polygon(_around(5, 1.05, inner=0.44, y=0.08), sheet.colour)


def _heart(sheet: Sheet) -> None:
    sheet.disc(-0.48, -0.32, 0.52, sheet.colour)
    sheet.disc(0.48, -0.32, 0.52, sheet.colour)
    sheet.polygon([(-0.94, -0.08), (0, -0.42), (0.94, -0.08), (0, 0.95)], sheet.colour)


def _cat(sheet: Sheet) -> None:
    for side in (-1, 1):
        sheet.polygon([(side * 0.88, -1), (side * 0.2, -0.6), (side * 0.9, 0)], sheet.colour)
    sheet.ellipse(0, 0.1, 0.95, 0.82, sheet.colour)
    for side in (-1, 1):
        sheet.disc(side * 0.38, -0.05, 0.2, _PAPER)
        sheet.ellipse(side * 0.38, -0.05, 0.09, 0.18, _INK)
        sheet.line((side * 0.3, 0.42), (side * 0.98, 0.32), 0.06, sheet.shade)
        sheet.line((side * 0.3, 0.5), (side * 0.94, 0.6), 0.06, sheet.shade)
    sheet.polygon([(-0.14, 0.27), (0.14, 0.27), (0, 0.46)], sheet.shade)


def _dog(sheet: Sheet) -> None:
    sheet.ellipse(0, 0, 0.8, 0.88, sheet.colour)
    for side in (-1, 1):
        sheet.ellipse(side * 0.74, -0.05, 0.26, 0.62, sheet.shade)
        sheet.disc(side * 0.32, -0.22, 0.17, _PAPER)
        sheet.disc(side * 0.32, -0.2, 0.1, _INK)
    sheet.ellipse(0, 0.42, 0.42, 0.34, _PAPER)
    sheet.ellipse(0, 0.24, 0.2, 0.15, _INK)
    sheet.line((0, 0.24), (0, 0.58), 0.07, _INK)


def _house(sheet: Sheet) -> None:
    sheet.box(-0.75, -0.15, 0.75, 0.9, sheet.colour)
    sheet.polygon([(-1, -0.12), (1, -0.12), (0, -0.98)], sheet.shade)
    sheet.box(-0.18, 0.35, 0.18, 0.9, sheet.shade)
    for side in (-1, 1):
        sheet.box(side * 0.48 - 0.15, 0.08, side * 0.48 + 0.15, 0.38, _LIGHT)


def _tree(sheet: Sheet) -> None:
    sheet.box(-0.16, 0.1, 0.16, 1, _WOOD)
    sheet.disc(-0.42, -0.05, 0.48, sheet.colour)
    sheet.disc(0.42, -0.05, 0.48, sheet.colour)
    sheet.disc(0, -0.45, 0.55, sheet.colour)


def _flower(sheet: Sheet) -> None:
    sheet.line((0, 0), (0, 1), 0.12, _STALK)
    sheet.ellipse(0.26, 0.74, 0.26, 0.12, _STALK)
    for petal in range(6):
        turn = petal * math.pi / 3 + math.pi / 6
        sheet.disc(0.46 * math.cos(turn), -0.24 + 0.46 * math.sin(turn), 0.3, sheet.colour)
    sheet.disc(0, -0.24, 0.27, sheet.shade)


def _fish(sheet: Sheet) -> None:
    sheet.polygon([(0.4, 0), (1, -0.52), (1, 0.52)], sheet.shade)
    sheet.ellipse(-0.18, 0, 0.82, 0.56, sheet.colour)
    sheet.polygon([(-0.3, 0), (0.18, -0.2), (0.18, 0.2)], sheet.shade)
    sheet.disc(-0.6, -0.12, 0.15, _PAPER)
    sheet.disc(-0.63, -0.12, 0.08, _INK)


def _car(sheet: Sheet) -> None:
    sheet.polygon([(-0.66, -0.05), (-0.4, -0.55), (0.36, -0.55), (0.68, -0.05)], sheet.colour)
    sheet.polygon([(-0.46, -0.06), (-0.28, -0.42), (-0.06, -0.42), (-0.06, -0.06)], _GLASS)
    sheet.polygon([(0.06, -0.06), (0.06, -0.42), (0.27, -0.42), (0.48, -0.06)], _GLASS)
    sheet.box(-1, -0.1, 1, 0.38, sheet.colour, rounded=0.14)
    for side in (-1, 1):
        sheet.disc(side * 0.54, 0.38, 0.25, _INK)
        sheet.disc(side * 0.54, 0.38, 0.1, _PAPER)


def _moon(sheet: Sheet) -> None:
    sheet.disc(0, 0, 1, sheet.colour)
    sheet.disc(0.48, -0.16, 0.82, sheet.ground)


def _boat(sheet: Sheet) -> None:
    sheet.polygon([(-1, 0.35), (1, 0.35), (0.62, 0.85), (-0.62, 0.85)], sheet.shade)
    sheet.line((0, -0.95), (0, 0.36), 0.1, _WOOD)
    sheet.polygon([(0.1, -0.9), (0.1, 0.22), (0.86, 0.22)], sheet.colour)
    sheet.polygon([(-0.1, -0.7), (-0.1, 0.22), (-0.68, 0.22)], sheet.colour)


_SUBJECTS: Final[dict[str, Callable[[Sheet], None]]] = {
    "circle": _circle, "square": _square, "triangle": _triangle, "star": _star, "heart": _heart, "cat": _cat,
    "dog": _dog, "house": _house, "tree": _tree, "flower": _flower, "fish": _fish, "car": _car, "moon": _moon,
    "boat": _boat,
}  # fmt: skip
