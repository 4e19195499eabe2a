"""JSON with the files of pictures in it, in base64: sent as it is made, so that no picture is ever whole in memory."""

import base64
import json
import re
import uuid
from collections.abc import AsyncIterator
from typing import Any

from starlette.responses import StreamingResponse

from stablediffusiond.gateway.errors import NotFound
from stablediffusiond.gateway.store.files import StoredFile


class JsonWithPictures:
    """``value``, in which ``StoredFile`` may stand where a text may."""

    def __init__(self, value: Any) -> None:
        self._files: list[StoredFile] = []
        self._first: AsyncIterator[bytes] | None = None
        self._mark = uuid.uuid4().hex
        written = json.dumps(value, ensure_ascii=False, default=self._marked)
        #: Text and number of a file in turn; it begins and ends with text.
        self._parts = re.split(f"{self._mark}-([0-9]+)", written)

    async def open(self) -> None:
        """Begin the first picture, while an error can still be the answer. Raises StoreUnavailable and NotFound."""
        if self._files:
            try:
                self._first = await self._files[0].stream()
            except FileNotFoundError:
                raise NotFound("this picture is not kept any more") from None

    @property
    def length(self) -> int:
        """In bytes."""
        texts = sum(len(text.encode()) for text in self._parts[::2])
        return texts + sum(_base64_bytes(self._files[int(number)]) for number in self._parts[1::2])

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for place, part in enumerate(self._parts):
            if place % 2 == 0:
                yield part.encode()
                continue
            stream = self._first if part == "0" and self._first is not None else await self._files[int(part)].stream()
            async for piece in _encoded(stream):
                yield piece

    def _marked(self, value: object) -> str:
        if not isinstance(value, StoredFile):
            raise TypeError(f"{type(value).__name__} is none of JSON's")
        self._files.append(value)
        return f"{self._mark}-{len(self._files) - 1}"


async def response(value: Any) -> StreamingResponse:
    """An answer with a length, so that a client notices when it breaks off. Raises StoreUnavailable and NotFound."""
    written = JsonWithPictures(value)
    await written.open()
    headers = {"Content-Length": str(written.length)}
    return StreamingResponse(written, media_type="application/json", headers=headers)


def _base64_bytes(file: StoredFile) -> int:
    return (file.size + 2) // 3 * 4


async def _encoded(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Three bytes are four characters: what is left over waits for the next piece."""
    left = b""
    async for piece in pieces:
        joined = left + piece if left else piece
        whole = len(joined) // 3 * 3
        left = joined[whole:]
        yield base64.b64encode(memoryview(joined)[:whole])
    yield base64.b64encode(left)
