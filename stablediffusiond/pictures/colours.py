"""From all that files have, greys, inks, palettes, sixteen bits, transparency, to sRGB on white."""

import io
from typing import Final

from PIL import Image, ImageChops, ImageCms

Size = tuple[int, int]

_WHITE: Final = (255, 255, 255)
#: Modes of sixteen bits, and how Pillow is told to take the upper eight of them, and the lower.
_SIXTEEN_BITS: Final = {"I;16": ("L;16", "L;16B"), "I;16L": ("L;16", "L;16B"), "I;16B": ("L;16B", "L;16")}
#: What can be resized as it is. Transparent pixels count for nothing then: Pillow weighs colours by them.
_RESIZED: Final = frozenset({"L", "LA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB"})
#: Modes for which a profile may be; it names its own.
_PROFILED: Final = frozenset({"L", "RGB", "CMYK"})
#: Larger profiles are for printers, and no photograph has one.
_MOST_PROFILE_BYTES: Final = 4_000_000
_SRGB: Final = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
_LAB: Final = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))


def resized(picture: Image.Image, size: Size) -> Image.Image:
    """``picture`` as RGB at ``size``; what is transparent lies on white."""
    profile = picture.info.get("icc_profile")
    picture = _resizable(picture)
    small = picture.resize(size, Image.Resampling.LANCZOS, reducing_gap=3)
    alpha = small.getchannel("A") if small.mode in {"LA", "RGBA"} else None
    opaque = small.convert(small.mode[:-1]) if alpha else small
    coloured = _to_srgb(opaque, profile)
    if alpha is None:
        return coloured
    on_white = Image.new("RGB", size, _WHITE)
    on_white.paste(coloured, mask=alpha)
    return on_white


def clear_parts(picture: Image.Image, size: Size) -> Image.Image | None:
    """White where ``picture`` is transparent, black where it is opaque, L at ``size``; None where nothing can be."""
    picture = _resizable(picture)
    if picture.mode not in {"LA", "RGBA"}:
        return None
    return ImageChops.invert(picture.getchannel("A").resize(size, Image.Resampling.LANCZOS, reducing_gap=3))


def _resizable(picture: Image.Image) -> Image.Image:
    """``picture`` in a mode whose pixels may be mixed: a mean of two palette entries is no colour."""
    picture.load()
    if picture.mode in _SIXTEEN_BITS:
        return _upper_bits(picture)
    if picture.mode == "I":  # 16 bits in 32
        return picture.point(lambda value: value * (1 / 256)).convert("L")
    if picture.mode == "F":  # 1 is white
        return picture.point(lambda value: value * 255).convert("L")
    if "transparency" in picture.info:
        return _with_alpha(picture)
    if picture.mode in _RESIZED:
        return picture
    return picture.convert("RGBA" if picture.mode in {"PA", "La", "RGBa"} else "RGB")


def _with_alpha(picture: Image.Image) -> Image.Image:
    """``picture``, one colour of which (or some of whose palette) is transparent."""
    colour = picture.info["transparency"]
    if isinstance(colour, tuple) and max(colour) > 255:  # of 16 bits, where Pillow has read 8
        picture.info["transparency"] = tuple(value >> 8 for value in colour)
    return picture.convert("RGBA")


def _upper_bits(picture: Image.Image) -> Image.Image:
    data, (upper_mode, lower_mode) = picture.tobytes(), _SIXTEEN_BITS[picture.mode]
    upper = Image.frombytes("L", picture.size, data, "raw", upper_mode)
    grey = picture.info.get("transparency")
    if not isinstance(grey, int):
        return upper
    lower = Image.frombytes("L", picture.size, data, "raw", lower_mode)
    clear = ImageChops.multiply(_where(upper, grey >> 8), _where(lower, grey & 255))
    return Image.merge("LA", (upper, ImageChops.invert(clear)))


def _where(picture: Image.Image, grey: int) -> Image.Image:
    """White where ``picture`` is ``grey``, else black."""
    return picture.point([255 * (value == grey) for value in range(256)])


def _to_srgb(picture: Image.Image, profile: object) -> Image.Image:
    """``picture`` as RGB; by its profile, if it has one that can be used."""
    if picture.mode == "LAB":
        read = _LAB
    elif isinstance(profile, bytes) and 0 < len(profile) <= _MOST_PROFILE_BYTES and picture.mode in _PROFILED:
        try:
            read = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
            return picture.convert("RGB")  # as other programs do with a broken profile
    else:
        return picture.convert("RGB")
    try:
        made = ImageCms.profileToProfile(picture, read, _SRGB, outputMode="RGB")
    except (ImageCms.PyCMSError, ValueError):
        made = None  # a profile for another kind of picture
    return picture.convert("RGB") if made is None else made
