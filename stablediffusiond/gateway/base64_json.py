"""JSON with the files of pictures in it, in base64: sent as it is made, so that no picture is ever whole in memory."""

import asyncio
import base64
import json
import re
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from starlette.responses import StreamingResponse

#: Three bytes are four characters: a piece of a multiple of three has no padding.
_PIECE_BYTES: Final = 3 * 65_536


@dataclass(frozen=True)
class PictureFile:
    """Stands in an object of JSON for the base64 of a file."""

    path: Path
    bytes: int  #: its size

    @property
    def base64_bytes(self) -> int:
        return (self.bytes + 2) // 3 * 4


class JsonWithPictures:
    """``value``, in which ``PictureFile`` may stand where a text may."""

    def __init__(self, value: Any) -> None:
        self._files: list[PictureFile] = []
        self._mark = uuid.uuid4().hex
        written = json.dumps(value, ensure_ascii=False, default=self._marked)
        #: Text and number of a file in turn; it begins and ends with text.
        self._parts = re.split(f"{self._mark}-([0-9]+)", written)

    @property
    def length(self) -> int:
        """In bytes."""
        texts = sum(len(text.encode()) for text in self._parts[::2])
        return texts + sum(self._files[int(number)].base64_bytes for number in self._parts[1::2])

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for place, part in enumerate(self._parts):
            if place % 2 == 0:
                yield part.encode()
                continue
            with await asyncio.to_thread(self._files[int(part)].path.open, "rb") as file:
                while piece := await asyncio.to_thread(_read, file):
                    yield piece

    def _marked(self, value: object) -> str:
        if not isinstance(value, PictureFile):
            raise TypeError(f"{type(value).__name__} is none of JSON's")
        self._files.append(value)
        return f"{self._mark}-{len(self._files) - 1}"


def response(value: Any) -> StreamingResponse:
    """An answer with a length, so that a client notices when it breaks off."""
    written = JsonWithPictures(value)
    headers = {"Content-Length": str(written.length)}
    return StreamingResponse(written, media_type="application/json", headers=headers)


def _read(file: BinaryIO) -> bytes:
    return base64.b64encode(file.read(_PIECE_BYTES))
