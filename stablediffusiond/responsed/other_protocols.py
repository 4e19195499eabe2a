"""What other protocols begin with.

A web page can have its browser connect to any port of this machine and send what the page chose, but only after bytes
of a protocol that the browser speaks: an HTTP request line, or TLS's ClientHello. Nothing that follows them may be
executed. The other protocols here are what a client that was given a wrong port begins with.
"""

import re
from typing import Final

#: Of HTTP (RFC 9110, 9113), WebDAV (RFC 4918, 3253, 5323) and RTSP (RFC 2326).
_METHODS: Final = (
    b"GET|HEAD|POST|PUT|PATCH|DELETE|CONNECT|OPTIONS|TRACE|PRI|QUERY"
    b"|PROPFIND|PROPPATCH|MKCOL|COPY|MOVE|LOCK|UNLOCK|REPORT|SEARCH"
    b"|DESCRIBE|ANNOUNCE|SETUP|PLAY|PAUSE|RECORD|TEARDOWN"
)
_BEGINNINGS: Final = tuple(
    (name, re.compile(pattern, re.DOTALL))
    for name, pattern in (
        ("HTTP", rb"(?i:" + _METHODS + rb")[ \t]"),
        ("HTTP", rb"(?i:HTTP/|RTSP/|SIP/|ICY )\d"),
        # A method may be any word: such a request line is known by its end.
        ("HTTP", rb"[^\n]*[ \t](?i:HTTP|RTSP|SIP|ICAP)/\d(?:\.\d)?[ \t]*\r?\n"),
        # A handshake or an alert in a record of SSL 3.0 or later, and the hello of SSL 2.0 that offers them.
        ("TLS", rb"[\x15\x16]\x03[\x00-\x04]|\x80.\x01\x03[\x00-\x04]"),
        ("AMQP", rb"AMQP"),
        ("the PROXY protocol", rb"PROXY[ \t]|\r\n\r\n\x00\r\nQUIT\n"),
        ("SSH", rb"SSH-\d"),
        ("SOCKS", rb"\x04[\x01\x02]..|\x05[\x01-\x0f][\x00-\x09\x80-\xfe]"),
        ("MQTT", rb"\x10.{1,4}\x00[\x04\x06]MQ"),
    )
)
#: All but a request line are known by so many bytes.
LONGEST_BEGINNING_BYTES: Final = 16


def other_protocol(beginning: bytes) -> str | None:
    """The protocol that a line which begins so belongs to; None if it is ours, or not yet known."""
    if beginning.startswith(b"{"):
        return None
    return next((name for name, pattern in _BEGINNINGS if pattern.match(beginning)), None)
