"""What a program may give as an image or a mask, besides what a message may hold: a path, an open file, an array…

Only the program that runs this opens files, and only its own: what others have written to it, a path among it, belongs
into the one mapping that ``Client.submit`` takes, or into ``Request.from_fields``, which open nothing.
"""

import io
import math
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Protocol, runtime_checkable

from stablediffusiond.errors import InvalidRequest
from stablediffusiond.messages import controls, ip_adapters
from stablediffusiond.messages.aliases import ALIASES

if TYPE_CHECKING:
    import PIL.Image

#: The fields that may hold a picture, with their other names.
_NAMES: Final = frozenset({"image", "mask", *ALIASES["image"], *ALIASES["mask"]})
#: Those that hold objects with a picture each, and what that is called there.
_GUIDES: Final = frozenset({"control", "controlnet_units", "ip_adapter"})
_NAMES_IN_GUIDES: Final = frozenset({*controls.IMAGE, *ip_adapters.IMAGE})
#: What a request of 16 MiB holds beside a prompt; in base64 it is a third longer.
MOST_BYTES: Final = 12_000_000
#: Larger pictures than these are sent smaller: the daemon would draw none so large, and shrink them anyway.
_PIXELS: Final = (2048 * 2048, 1536 * 1536, 1024 * 1024)
#: Modes that PNG does not have, and TIFF has.
_INKS: Final = frozenset({"CMYK", "LAB", "YCbCr", "F", "I", "I;16B"})
_LONGEST_PATH: Final = 4096


@runtime_checkable
class _Readable(Protocol):
    def read(self) -> object: ...


def with_images_read(fields: Mapping[str, object]) -> dict[str, object]:
    """``fields`` of a request, with the bytes of each image in place of what stands for it.

    Raises:
        InvalidRequest: it cannot be read.
    """
    made = dict(fields)
    for name in _NAMES & made.keys():
        made[name] = _read(made[name], name)
    if isinstance(images := made.get("init_images"), list):
        made["init_images"] = [_read(image, "init_images") for image in images]
    for name in _GUIDES & made.keys():
        made[name] = _guides_read(made[name], name)
    return made


def names_images(fields: Mapping[str, object]) -> bool:
    """Whether there is anything to read."""
    return bool({*_NAMES, *_GUIDES, "init_images", "like"} & fields.keys())


def read_file(path: str | os.PathLike[str], name: str = "image") -> bytes:
    """The picture in a file; one that no request holds is sent smaller.

    Raises:
        InvalidRequest: it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return _fitting(file.read())
    except OSError as error:
        raise InvalidRequest(f"{name!r}: cannot read {os.fspath(path)}: {error.strerror}", field=name) from None


def _guides_read(given: object, where: str) -> object:
    """ControlNets or IP-Adapters, or one, with the bytes of their images."""
    if isinstance(given, list | tuple):
        return [_guides_read(each, where) for each in given]
    if not isinstance(given, Mapping):
        return given
    return {name: _read(value, where) if name in _NAMES_IN_GUIDES else value for name, value in given.items()}


def _read(value: object, name: str) -> object:
    if isinstance(value, bytes | bytearray | memoryview):
        return _fitting(bytes(value))
    if isinstance(value, os.PathLike) or (isinstance(value, str) and _is_path(value)):
        return read_file(value, name)
    pillow = sys.modules.get("PIL.Image")  # who has a picture of Pillow has loaded it
    if pillow is not None and isinstance(value, pillow.Image):
        return _encoded(value, name)
    if isinstance(value, _Readable):
        data = value.read()
        if not isinstance(data, bytes):
            raise InvalidRequest(f'{name!r}: open the file in binary mode, as "rb"', field=name)
        return _fitting(data)
    if hasattr(value, "__array_interface__"):
        return _encoded(_from_array(value, name), name)
    return value


def _is_path(text: str) -> bool:
    """Whether ``text`` is a file of ours; else it is base64, or for ``Request`` to refuse."""
    return len(text) <= _LONGEST_PATH and "\0" not in text and os.path.isfile(text)


def _from_array(array: object, name: str) -> "PIL.Image.Image":
    import PIL.Image  # noqa: PLC0415 (a program that sends no picture need not wait for Pillow)

    try:
        return PIL.Image.fromarray(array)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        message = f"{name!r}: an array must have a height, a width and perhaps channels, in uint8: {error}"
        raise InvalidRequest(message, field=name) from None


def _fitting(data: bytes) -> bytes:
    """``data``, or if no request can hold it, the same picture at fewer pixels, opened as the daemon opens it."""
    if len(data) <= MOST_BYTES:
        return data
    from stablediffusiond.pictures.opening import open_at  # noqa: PLC0415 (as above)

    return _encoded(open_at(data, lambda size: _at_most(size, _PIXELS[0])), "image")


def _encoded(picture: "PIL.Image.Image", name: str) -> bytes:
    """A file with ``picture`` in it, upright, at no more pixels than are of use, and small enough for a request."""
    from PIL import ImageOps  # noqa: PLC0415 (as above)

    try:
        upright = ImageOps.exif_transpose(picture)
        for pixels in _PIXELS:
            data = _file(upright, _at_most(upright.size, pixels))
            if len(data) <= MOST_BYTES:
                return data
    except (OSError, ValueError, SyntaxError) as error:
        raise InvalidRequest(f"{name!r}: this picture cannot be encoded: {error}", field=name) from None
    raise InvalidRequest(f"{name!r}: this picture has {len(data)} bytes; make it smaller", field=name)


def _file(picture: "PIL.Image.Image", size: tuple[int, int]) -> bytes:
    if size != picture.size:
        mixed = picture if picture.mode not in {"1", "P", "PA"} else picture.convert("RGBA")
        picture = mixed.resize(size, reducing_gap=3)
    out = io.BytesIO()
    if picture.mode in _INKS:
        picture.save(out, "TIFF", compression="tiff_lzw")
    else:
        plain = picture.convert("RGBA") if picture.mode in {"PA", "La", "RGBa"} else picture
        (plain.convert("RGB") if plain.mode in {"HSV", "RGBX"} else plain).save(out, "PNG", compress_level=1)
    return out.getvalue()


def _at_most(size: tuple[int, int], pixels: int) -> tuple[int, int]:
    scale = math.sqrt(pixels / (size[0] * size[1]))
    return size if scale >= 1 else (max(int(size[0] * scale), 1), max(int(size[1] * scale), 1))
