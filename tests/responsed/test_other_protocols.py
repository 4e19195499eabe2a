"""What browsers, curl and clients of other services send first: recorded, and recognised by their first bytes."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stablediffusiond.frames import Listen, encode_op
from stablediffusiond.responsed.other_protocols import LONGEST_BEGINNING_BYTES, other_protocol

RECORDED = {file.name: file.read_bytes() for file in (Path(__file__).parent / "recorded").iterdir()}
#: The line that curl begins a dictionary's protocol with could be anybody's: it is no operation, and that ends it too.
UNKNOWN = {"curl_dict"}
NAMES = {
    "amqp": "AMQP", "amqps": "TLS", "chromium_tls": "TLS", "curl_haproxy": "the PROXY protocol", "curl_https": "TLS",
    "curl_mqtt": "MQTT", "curl_socks4": "SOCKS", "curl_socks5": "SOCKS", "firefox_tls": "TLS", "openssl": "TLS",
    "ssh": "SSH",
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(RECORDED.keys() - UNKNOWN))
def test_each_is_known_by_its_first_bytes(name: str) -> None:
    sent = RECORDED[name]
    beginning = sent[: max(sent.find(b"\n") + 1, LONGEST_BEGINNING_BYTES)]
    assert other_protocol(beginning) == NAMES.get(name, "HTTP")


@pytest.mark.parametrize(
    "line",
    [
        b"PRI * HTTP/2.0\r\n", b"OPTIONS * HTTP/1.1\r\n", b"CONNECT localhost:50007 HTTP/1.1\r\n", b"PATCH ", b"get / http/1.0\n",
        b"GET /\n", b"HTTP/1.1 200 OK\r\n", b"ICY 200 OK\r\n", b"X-ANY_WORD!'*$ /x HTTP/1.1\r\n", b"REGISTER sip:x SIP/2.0\r\n",
        b"POST\t/ HTTP/1.1\n", b"\x16\x03\x00", b"\x15\x03\x01\x00\x02", b"\x80\x2e\x01\x03\x01", b"AMQP\x01\x01\x00\x0a",
        b"\r\n\r\n\x00\r\nQUIT\n",
    ],
)  # fmt: skip
def test_so_are_other_forms(line: bytes) -> None:
    assert other_protocol(line) is not None


@given(st.binary(max_size=50))
def test_what_begins_as_an_object_may_be_ours(rest: bytes) -> None:
    assert other_protocol(b"{" + rest) is None
    assert other_protocol(encode_op(Listen(queue="results"))) is None


@pytest.mark.parametrize("sent", [b"", b"G", b"GET", b"hello\n", b"\n", b' {"op":"ping"}\n', b"\xff\xfe{\x00", b"\x16"])
def test_what_is_no_protocol_or_not_yet_one_is_left_to_the_parser(sent: bytes) -> None:
    assert other_protocol(sent) is None
