"""The formats of pictures that are drawn: their names, media types and suffixes.

Only names live here, so that a client can check one without Pillow; ``pictures/encoding.py`` makes the files.
"""

from typing import Final, Literal

from stablediffusiond.errors import InvalidRequest

Format = Literal["png", "jpeg", "webp"]

CONTENT_TYPES: Final[dict[Format, str]] = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}
SUFFIXES: Final[dict[Format, str]] = {"png": ".png", "jpeg": ".jpg", "webp": ".webp"}
#: Of JPEG and WebP; A1111's is 80, which shows in flat colours.
QUALITY: Final = 90
#: The quality at which a WebP loses nothing. (A lossy one would be larger here, and still have half of the colours.)
LOSSLESS: Final = 100
#: libwebp's; a JPEG's is beyond what is drawn.
MOST_WEBP_PIXELS_A_SIDE: Final = 16_383

_SPELLINGS: Final[dict[str, Format]] = {
    "png": "png", "jpeg": "jpeg", "jpg": "jpeg", "jpe": "jpeg", "jfif": "jpeg", "webp": "webp",
}  # fmt: skip
_LOSSLESS_WEBP: Final = frozenset({"webp-lossless", "webp_lossless", "webp lossless", "lossless webp", "lossless-webp"})


def find(name: str) -> tuple[Format, int | None]:
    """The format that ``name`` means, a media type and a suffix among them, and the quality that goes with it.

    Raises:
        InvalidRequest: pictures are not made in this format.
    """
    key = name.strip().lower().removeprefix("image/").removeprefix(".")
    if key in _LOSSLESS_WEBP:
        return "webp", LOSSLESS
    if key not in _SPELLINGS:
        raise InvalidRequest(f"must be {', '.join(CONTENT_TYPES)} or webp-lossless, not {name[:100]!r}", field="format")
    return _SPELLINGS[key], None


def of_suffix(suffix: str) -> Format | None:
    """The format of files that end so (``".jpg"``); None where it is none of ours."""
    return _SPELLINGS.get(suffix.lower().removeprefix("."))
