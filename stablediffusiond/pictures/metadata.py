"""What a picture's file says of itself: A1111's ``parameters``, as text, and our own request beside it, as JSON.

In a PNG both are text chunks. JPEG and WebP have them in EXIF, the JSON as MakerNote: what copies a picture's EXIF
copies both, and nothing of it has to be parsed as XML, as XMP would. Neither has a time or a version: the same request
gives the same bytes.
"""

import dataclasses
from dataclasses import dataclass
from typing import Final

from PIL import Image, PngImagePlugin

from stablediffusiond.errors import InvalidRequest
from stablediffusiond.pictures import bounds, exif
from stablediffusiond.pictures.opening import opened

_PARAMETERS: Final = "parameters"
_REQUEST: Final = "stablediffusiond"
#: Before the JSON, so that no camera's own notes pass for it.
_MARK: Final = b"stablediffusiond\0"
#: A JPEG's segment, whose length has 16 bits.
_MOST_JPEG_BYTES: Final = 65_533
#: Two prompts have up to 20,000 characters; people's files carry whole workflows.
_MOST_CHARACTERS: Final = 1_000_000
#: What other programs call theirs, for the error of a file in which there is nothing to read.
_OTHERS: Final = {"workflow": "ComfyUI", "prompt": "ComfyUI", "invokeai_metadata": "InvokeAI", "Comment": "NovelAI"}


@dataclass(frozen=True)
class Metadata:
    """Either may be empty."""

    parameters: str = ""
    request: str = ""

    @property
    def is_empty(self) -> bool:
        return not (self.parameters or self.request)


def as_png_chunks(metadata: Metadata) -> PngImagePlugin.PngInfo:
    """As Latin-1 (tEXt) where that has all the letters, as PNG asks for, else as UTF-8 (iTXt)."""
    chunks = PngImagePlugin.PngInfo()
    for name, text in ((_PARAMETERS, metadata.parameters), (_REQUEST, metadata.request)):
        if text:
            chunks.add_text(name, text)
    return chunks


def as_exif(metadata: Metadata) -> bytes:
    note = _MARK + metadata.request.encode() if metadata.request else b""
    return b"" if metadata.is_empty else exif.write(exif.Exif(metadata.parameters, note))


def fitting_jpeg(metadata: Metadata) -> Metadata:
    """``metadata`` with as much of it as a JPEG can hold: the request is left out first."""
    for kept in (metadata, dataclasses.replace(metadata, request="")):
        if len(as_exif(kept)) <= _MOST_JPEG_BYTES:
            return kept
    return Metadata()


def read(data: bytes) -> Metadata:
    """What the picture's file ``data`` says, whoever made it.

    Raises:
        InvalidRequest: no picture, a broken one, or one that says nothing of how it was drawn.
        TooLarge: more than any picture has to say, or more pixels and parts than are opened.
        OutOfMemory: this machine cannot hold it.
    """
    with opened(data) as picture:
        found = _found(picture)
        if found.is_empty and isinstance(picture, PngImagePlugin.PngImageFile):
            bounds.check_decoded(picture)
            picture.load()  # text may stand behind the pixels
            found = _found(picture)
        others = {_OTHERS[name] for name in _OTHERS.keys() & picture.info.keys()}
    if found.is_empty:
        whose = f"; what {min(others)} wrote into it is not read" if others else ""
        raise InvalidRequest(f"'image' does not say how it was drawn{whose}", field="image")
    for text in (found.parameters, found.request):
        if len(text) > _MOST_CHARACTERS:
            raise InvalidRequest(f"'image' says more than {_MOST_CHARACTERS} characters about itself", field="image")
    return found


def _found(picture: Image.Image) -> Metadata:
    said = Metadata(_text(picture.info.get(_PARAMETERS)), _text(picture.info.get(_REQUEST)))
    block = picture.info.get("exif")
    if isinstance(block, bytes) and block:
        in_exif = exif.read(block)
        note = in_exif.maker_note
        ours = note.removeprefix(_MARK).decode() if note.startswith(_MARK) else ""
        said = Metadata(said.parameters or in_exif.user_comment, said.request or ours)
    return said if said.parameters else Metadata(_text(picture.info.get("comment")), said.request)  # as GIFs have it


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "ignore")
    return str(value) if isinstance(value, str) else ""
