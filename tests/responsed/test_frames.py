import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from stablediffusiond.errors import FramingError, OpError, UnknownOp
from stablediffusiond.frames import (
    Ack,
    Auth,
    CancelOp,
    Encoding,
    Listen,
    Op,
    Ping,
    encode,
    encode_op,
    parse_op,
    read_frame,
)

_NAMES = st.text().filter(lambda name: name not in {"data", "length"})
_HEADS = st.dictionaries(_NAMES, st.none() | st.booleans() | st.integers() | st.text(), max_size=5)


@given(_HEADS, st.none() | st.binary(max_size=500), st.sampled_from(["base64", "binary"]))
def test_what_is_encoded_is_read(head: dict[str, object], data: bytes | None, encoding: Encoding) -> None:
    stream = io.BytesIO(b"".join(encode(head, data, encoding) * 2))
    for _ in range(2):
        frame = read_frame(stream)
        assert frame is not None
        assert (frame.head, frame.data) == (head, data)
    assert read_frame(stream) is None


@given(_HEADS, st.binary(max_size=100))
def test_base64_makes_one_line_of_json(head: dict[str, object], data: bytes) -> None:
    whole = b"".join(encode(head, data))
    assert whole.count(b"\n") == 1
    assert set(json.loads(whole)) == {*head, "data"}


@pytest.mark.parametrize(
    "op",
    [
        Listen(queue="results.alice", progress=True, encoding="binary", ack="manual", prefetch=4),
        Listen(queue="results"),
        Ack(delivery=3),
        CancelOp(id="job"),
        Ping(),
        Auth(token=SecretStr("sesame")),
    ],
)
def test_an_op_is_read_as_it_was_written(op: Op) -> None:
    assert parse_op(encode_op(op)) == op
    assert "sesame" not in repr(op)


@given(st.binary(max_size=200))
def test_no_line_breaks_the_parser(line: bytes) -> None:
    with pytest.raises(OpError):
        parse_op(line)


@pytest.mark.parametrize(
    "line",
    [b"{}", b'{"op":"dance"}', b'{"op":"listen"}', b'{"op":"ack","delivery":"x"}', b'{"op":"ping","more":1}', b"[]", b"\xff",
     b'{"op":"listen","queue":"results","prefetch":0}', b'{"op":"listen","queue":"results","encoding":"hex"}'],
)  # fmt: skip
def test_a_wrong_op_says_which_there_are(line: bytes) -> None:
    with pytest.raises(OpError, match="known ops: auth, listen, ack, cancel, ping"):
        parse_op(line)


@pytest.mark.parametrize(
    "line", [b'{"op":"ping"' + b',"x":1' * 10_000 + b"}", b'{"op":"listen","queue":' + b"[" * 60_000, b"," * 60_000]
)
def test_a_line_of_many_parts_is_not_looked_into(line: bytes) -> None:
    """Each field too many would cost an error of its own."""
    with pytest.raises(UnknownOp, match="more than 500 parts"):
        parse_op(line)


@pytest.mark.parametrize("stream", [b"{}", b"not json\n", b"[1]\n", b'{"length":5}\nabc', b'{"type":"x"}'])
def test_a_stream_that_is_not_ours_is_a_framing_error(stream: bytes) -> None:
    with pytest.raises(FramingError):
        read_frame(io.BytesIO(stream))
