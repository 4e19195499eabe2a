"""What can be seen of a drawing's lines: its silhouette, its outline for a ControlNet, and the drawing as if in ink."""

from typing import Final

from PIL import Image, ImageChops, ImageFilter

#: How much, of 255, a colour has to be another one to count as such.
_OTHER: Final = 36
_INK: Final = (12, 12, 16)


def silhouette(picture: Image.Image) -> Image.Image:
    """White (L, of the picture's size) where ``picture``, RGB, is of another colour than in its upper left corner."""
    plain = Image.new("RGB", picture.size, picture.getpixel((1, 1)))
    return _largest(ImageChops.difference(picture, plain)).point(_is_other)


def outline(picture: Image.Image) -> Image.Image:
    """White lines (RGB, about two pixels wide) on black, where colours meet in ``picture``."""
    steps = ImageChops.difference(picture.filter(ImageFilter.MaxFilter(3)), picture.filter(ImageFilter.MinFilter(3)))
    return _largest(steps).point(_is_other).convert("RGB")


def in_ink(picture: Image.Image, width: int) -> Image.Image:
    """``picture`` with a black contour around what it shows, ``width`` pixels wide, which is an odd number."""
    shape = silhouette(picture)
    contour = ImageChops.subtract(
        shape.filter(ImageFilter.MaxFilter(width)), shape.filter(ImageFilter.MinFilter(width))
    )
    inked = picture.copy()
    inked.paste(_INK, mask=contour)
    return inked


def _largest(picture: Image.Image) -> Image.Image:
    """The largest of the three channels, L."""
    red, green, blue = picture.split()
    return ImageChops.lighter(ImageChops.lighter(red, green), blue)


def _is_other(difference: int) -> int:
    return 255 if difference > _OTHER else 0
