"""What stands behind the ? of a broker's URL.

RabbitMQ's clients for Erlang, Go, Ruby, Java and PHP write ``heartbeat=10&connection_timeout=5000&cacertfile=…``, that
for Node ``frameMax``, pika, aio-pika and kombu have names of their own. docs/operations.md has the list.
"""

import ast
import difflib
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from stablediffusiond.errors import SettingsError


@dataclass(frozen=True)
class _Meaning:
    """What a parameter sets, and how its text is read; ``expected`` is in the error when it cannot be."""

    sets: str
    read: Callable[[str], object]
    expected: str
    needs_tls: bool = False


def _number(low: int, high: int) -> Callable[[str], object]:
    def read(text: str) -> int:
        if not low <= (value := int(text)) <= high:
            raise ValueError
        return value

    return read


def _seconds(text: str) -> float:
    if not 0 < (value := float(text)) < float("inf"):
        raise ValueError
    return value


def _milliseconds(text: str) -> float:
    return _seconds(text) / 1000


def _path(text: str) -> Path:
    if not text:
        raise ValueError
    return Path(text)


def _name(text: str) -> str:
    if not text or text == "disable":
        raise ValueError
    return text


def _one_of(**values: object) -> Callable[[str], object]:
    return lambda text: values[text.lower()]


_HEARTBEAT: Final = _Meaning(
    "heartbeat_seconds", _number(5, 600), "5 to 600 seconds: without, a dead broker is not noticed"
)
_CONNECT: Final = _Meaning("connect_timeout_seconds", _seconds, "a number of seconds above 0")
_CA_FILE: Final = _Meaning("ca_file", _path, "a file", needs_tls=True)
_CERTIFICATE: Final = _Meaning("certificate_file", _path, "a file", needs_tls=True)
_KEY: Final = _Meaning("key_file", _path, "a file", needs_tls=True)
_SERVER_NAME: Final = _Meaning("server_name", _name, "the name in the broker's certificate", needs_tls=True)
_CHANNELS: Final = _Meaning("channel_max", _number(1, 65_535), "1 to 65535")
_FRAME: Final = _Meaning("frame_max", _number(4096, 131_072), "4096 to 131072 bytes")
_MECHANISM: Final = _Meaning("auth_mechanism", _one_of(plain="plain", external="external"), "plain or external")
#: The broker's certificate is looked at in any case.
_VERIFIED: Final = "verify_peer; [broker] ca_file names who signed the broker's certificate, which is always verified"
_VERIFY: Final = _Meaning("", _one_of(verify_peer=None, cert_required=None, required=None), _VERIFIED, needs_tls=True)
_SHOWN: Final = _Meaning("", _one_of(true=None), "true", needs_tls=True)
_NO_VERIFY: Final = _Meaning("", _one_of(**{"0": None, "false": None}), _VERIFIED.replace("verify_peer", "false"))
_LOCALE: Final = _Meaning("", _one_of(en_us=None), "en_US")

_MEANINGS: Final[Mapping[str, _Meaning]] = {
    "heartbeat": _HEARTBEAT,
    "connection_timeout": _Meaning("connect_timeout_seconds", _milliseconds, "a number of milliseconds above 0"),
    "connect_timeout": _CONNECT,
    "stack_timeout": _CONNECT,
    "socket_timeout": _Meaning("socket_timeout", _seconds, "a number of seconds above 0"),
    "timeout": _CONNECT,
    "blocked_connection_timeout": _Meaning("blocked_timeout_seconds", _seconds, "a number of seconds above 0"),
    "channel_max": _CHANNELS,
    "channelMax": _CHANNELS,
    "frame_max": _FRAME,
    "frameMax": _FRAME,
    "locale": _LOCALE,
    "auth_mechanism": _MECHANISM,
    "auth": _MECHANISM,
    "login_method": _MECHANISM,
    **dict.fromkeys(("cacertfile", "cafile", "ca_certs", "ssl_ca_certs", "cacert"), _CA_FILE),
    **dict.fromkeys(("certfile", "ssl_certfile", "cert"), _CERTIFICATE),
    **dict.fromkeys(("keyfile", "ssl_keyfile", "key"), _KEY),
    **dict.fromkeys(("server_name_indication", "server_hostname"), _SERVER_NAME),
    **dict.fromkeys(("verify", "ssl_cert_reqs", "cert_reqs"), _VERIFY),
    "fail_if_no_peer_cert": _SHOWN,
    "no_verify_ssl": _NO_VERIFY,
}
_RECONNECTING: Final = "connections are made again for ever, as [broker] reconnect_min_seconds and _max_seconds say"
_NAMED: Final = "connections have names of ours"
#: What other libraries have and we do in another way.
_ELSEWHERE: Final = {
    **dict.fromkeys(
        ("connection_attempts", "retry_delay", "reconnect_interval", "fail_fast", "failover_strategy"), _RECONNECTING
    ),
    **dict.fromkeys(("name", "connection_name", "client_properties"), _NAMED),
    "ssl": "the URL begins with amqps:// where TLS is spoken",
    **dict.fromkeys(("tcp_options", "read_timeout", "write_timeout"), "a silent broker is noticed by heartbeats"),
    "confirm_publish": "every publish is confirmed",
    "password": "[broker] key_file names a key without one",
    "vhost": "the virtual host stands behind the first /, as its path",
}


def read_query(query: str, *, is_secure: bool) -> dict[str, object]:
    """What ``query`` sets, by the names of ``BrokerSettings``, and others that ``parameters`` knows.

    Raises:
        SettingsError: a parameter has no meaning here.
    """
    options: dict[str, object] = {}
    for name, text in _pairs(query):
        for each, value in _ssl_options(text).items() if name == "ssl_options" else ((name, text),):
            _read(each, value, options, is_secure=is_secure)
    return options


def _pairs(query: str) -> Iterator[tuple[str, str]]:
    for pair in query.split("&") if query else ():
        name, equals, text = pair.partition("=")
        if not name or not equals:
            raise _refused("what stands behind the ? is name=value&name=value")
        try:
            yield urllib.parse.unquote(name, errors="strict"), urllib.parse.unquote(text, errors="strict")
        except UnicodeDecodeError:
            raise _refused("what stands behind the ? is not UTF-8") from None


def _read(name: str, text: str, options: dict[str, object], *, is_secure: bool) -> None:
    """Add what ``name`` sets to ``options``."""
    if (meaning := _MEANINGS.get(name)) is None:
        raise _refused(f"{name!r} has no meaning here: {_ELSEWHERE.get(name) or _nearest(name)}")
    if meaning.needs_tls and not is_secure:
        raise _refused(f"{name!r} needs TLS: the URL has to begin with amqps://")
    try:
        value = meaning.read(text)
    except (ValueError, KeyError, OverflowError):
        raise _refused(f"{name!r} must be {meaning.expected}") from None
    if meaning.sets and options.setdefault(meaning.sets, value) != value:
        raise _refused(f"{name!r} contradicts an earlier part of the query")


def _ssl_options(text: str) -> dict[str, str]:
    """pika's: a dictionary, as Python writes it."""
    try:
        found: object = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        found = None
    if not isinstance(found, dict) or not all(isinstance(each, str) for pair in found.items() for each in pair):
        raise _refused("'ssl_options' must be a dictionary of texts, such as {'cafile': '/etc/ca.pem'}")
    return found


def _nearest(name: str) -> str:
    near = difflib.get_close_matches(name, _MEANINGS, n=1)
    return f"did you mean {near[0]!r}?" if near else "leave it out"


def _refused(reason: str) -> SettingsError:
    return SettingsError(f"settings: [broker] url: {reason}")
