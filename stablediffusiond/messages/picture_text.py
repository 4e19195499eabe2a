"""A picture as text: base64, in the forms that the libraries of many languages give it, or a data URL."""

import base64
import binascii
from typing import Final

#: What may stand between the characters of base64: MIME breaks its lines after 76.
_SPACE: Final = b" \t\r\n\v\f"
_URL_SAFE: Final = bytes.maketrans(b"-_", b"+/")
#: Where a data URL was made for a query, base64 has escapes; replaced one by one, since a URL may have millions.
_ESCAPES: Final = {b"%2B": b"+", b"%2F": b"/", b"%3D": b"=", b"%0D": b"", b"%0A": b"", b"%20": b""}
#: How the files of pictures begin, also those that are not opened: the error then names the format.
_BEGINNINGS: Final = (
    b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"\0\0\0\x0cJXL ", b"\xff\x0a",
    b"8BPS", b"\0\0\0\x0cjP  ",
)  # fmt: skip


def read(value: object) -> object:
    """The bytes of the picture that ``value`` is.

    Raises:
        ValueError: it is none. Nothing that it may name is opened.
    """
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if not isinstance(value, str):
        raise ValueError("must be the text of a picture in base64")  # noqa: TRY004 (pydantic reports ValueErrors)
    try:
        written = _unescaped(_base64_of(value).encode("ascii")).translate(None, delete=_SPACE)
        plain = written.translate(_URL_SAFE).rstrip(b"=")
        plain += b"=" * (-len(plain) % 4)
        picture = base64.b64decode(plain, validate=True)
    except (UnicodeEncodeError, binascii.Error):
        raise _no_base64() from None
    # Any word is base64 of something, if its padding may be left out; a path must not pass for a picture.
    if not picture or (plain != written and not _begins_like_a_picture(picture)):
        raise _no_base64()
    return picture


def _base64_of(text: str) -> str:
    """The base64 in ``text``, which may be quoted or a data URL."""
    text = text.strip()
    start = 1 if text[:2] in {"b'", 'b"'} else 0  # Python's way to show bytes
    if len(text) - start > 1 and text[start] == text[-1] and text[-1] in "'\"":
        text = text[start + 1 : -1].strip()
    if text[:5].lower() != "data:":
        return text
    head, comma, data = text.partition(",")
    if not comma or not head.rstrip().lower().endswith(";base64"):
        raise ValueError("must be a data URL in base64 (data:image/png;base64,…)")
    return data


def _unescaped(data: bytes) -> bytes:
    if b"%" in data:
        for escape, character in _ESCAPES.items():
            data = data.replace(escape, character).replace(escape.lower(), character)
    return data


def _begins_like_a_picture(data: bytes) -> bool:
    riff = data[:4] == b"RIFF" and data[8:12] == b"WEBP"
    return riff or data[4:8] == b"ftyp" or data.startswith(_BEGINNINGS)


def _no_base64() -> ValueError:
    return ValueError("must be base64 or a data URL of a picture; paths and addresses are not opened")
