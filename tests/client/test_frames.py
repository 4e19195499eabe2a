"""Both readers of the socket read the same."""

import asyncio
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stablediffusiond.errors import FramingError
from stablediffusiond.frames import Frame, encode, read_frame, read_frame_async

_HEADS = st.dictionaries(st.text(), st.none() | st.integers() | st.text(), max_size=5)
_FRAMES = st.builds(
    lambda head, data, encoding: b"".join(encode(head, data, encoding)),
    _HEADS,
    st.none() | st.binary(max_size=200),
    st.sampled_from(["base64", "binary"]),
)
_STREAMS = st.builds(lambda frames, rest: b"".join(frames) + rest, st.lists(_FRAMES, max_size=4), st.binary(max_size=9))


def blocking(stream: bytes) -> list[Frame | str]:
    reader, read = io.BytesIO(stream), list[Frame | str]()
    try:
        while (frame := read_frame(reader)) is not None:
            read.append(frame)
    except FramingError as error:
        read.append(str(error))
    return read


async def awaited(stream: bytes) -> list[Frame | str]:
    reader, read = asyncio.StreamReader(), list[Frame | str]()
    reader.feed_data(stream)
    reader.feed_eof()
    try:
        while (frame := await read_frame_async(reader)) is not None:
            read.append(frame)
    except FramingError as error:
        read.append(str(error))
    return read


@given(_STREAMS)
def test_what_is_awaited_is_what_a_blocking_file_gives(stream: bytes) -> None:
    assert asyncio.run(awaited(stream)) == blocking(stream)


async def test_a_line_longer_than_the_reader_takes_is_a_framing_error() -> None:
    reader = asyncio.StreamReader(limit=100)
    reader.feed_data(b'{"type":"' + b"x" * 200 + b'"}\n')
    with pytest.raises(FramingError, match="too long"):
        await read_frame_async(reader)
