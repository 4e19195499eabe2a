"""Lines out of what a client sends, in whatever pieces it comes."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stablediffusiond.errors import OtherProtocol
from stablediffusiond.responsed.line_reader import LineReader, LineTooLong

BOM = b"\xef\xbb\xbf"


async def read(pieces: list[bytes], max_line_bytes: int = 100) -> list[bytes]:
    stream = asyncio.StreamReader()
    reader = LineReader(stream, max_line_bytes)

    async def feed() -> None:
        for piece in pieces:
            stream.feed_data(piece)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        stream.feed_eof()

    async with asyncio.TaskGroup() as group:
        group.create_task(feed())
        lines = []
        while (line := await reader.line()) is not None:
            lines.append(line)
    return lines


@given(st.lists(st.binary(max_size=20).map(lambda line: b"{" + line.replace(b"\n", b"")), max_size=8), st.data(), st.booleans())
def test_pieces_make_no_difference(lines: list[bytes], data: st.DataObject, marked: bool) -> None:
    whole = BOM * marked + b"".join(line + b"\n" for line in lines)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(whole)), max_size=6)))
    pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    assert asyncio.run(read([piece for piece in pieces if piece])) == lines


async def test_only_one_byte_order_mark_is_skipped() -> None:
    assert await read([BOM + BOM + b"{}\n" + BOM + b"{}\n"]) == [BOM + b"{}", BOM + b"{}"]


@pytest.mark.parametrize("line", [b"x" * 101, b"x" * 101 + b"\n"])
async def test_a_line_may_be_so_long(line: bytes) -> None:
    assert await read([b"x" * 100 + b"\n"]) == [b"x" * 100]
    with pytest.raises(ExceptionGroup) as caught:
        await read([line])
    assert caught.group_contains(LineTooLong)


@pytest.mark.parametrize("pieces", [[b"AMQP\x00\x00\x09\x01"], [b"A", b"M", b"QP"], [BOM, b"\x16", b"\x03\x01"], [b"{}\nGET / HTTP/1.1\r\n"]])
async def test_another_protocol_ends_it(pieces: list[bytes]) -> None:
    with pytest.raises(ExceptionGroup) as caught:
        await read(pieces)
    assert caught.group_contains(OtherProtocol)


async def test_thousands_of_lines_at_once_are_read_between_those_of_others() -> None:
    stream = asyncio.StreamReader()
    stream.feed_data(b"{}\n" * 1000)
    reader, others = LineReader(stream, 100), 0

    async def other() -> None:
        nonlocal others
        while True:
            await asyncio.sleep(0)
            others += 1

    busy = asyncio.create_task(other())
    for _ in range(1000):
        assert await reader.line() == b"{}"
    busy.cancel()
    assert others >= 900
