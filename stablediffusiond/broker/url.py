"""The broker's URL: RabbitMQ's own form (https://www.rabbitmq.com/docs/uri-spec), and what other libraries make of it.

Nothing of a URL is passed over: what has no meaning here is an error that names it. No error repeats what may be a
piece of a password.
"""

import re
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from stablediffusiond.broker.url_query import read_query
from stablediffusiond.errors import SettingsError

#: What it may begin with -> whether that means TLS. The last two are Celery's.
_SCHEMES: Final = {"amqp": False, "amqps": True, "pyamqp": False, "librabbitmq": False}
_PORTS: Final = {False: 5672, True: 5671}
#: RabbitMQ's, and every library's for what a URL leaves out.
_DEFAULT_USER: Final = "guest"
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,20})://")
_UP_TO_HOST: Final = re.compile(r"^[^:]*://[^/?#]*")
_UNESCAPED: Final = (
    "settings: [broker] url is not an AMQP URL: amqp://user:password@host:port/vhost; in the password, / # ? @ : and % "
    "are written %2F %23 %3F %40 %3A and %25"
)


@dataclass(frozen=True)
class BrokerUrl:
    """One node of the broker, and the user for it."""

    is_secure: bool
    host: str
    port: int
    user: str | None  #: None: the URL names no user
    password: str = field(repr=False)
    virtual_host: str
    #: What the query sets: fields of ``BrokerSettings``, and those of ``url_query``.
    options: Mapping[str, object]

    @property
    def credentials(self) -> tuple[str, str]:
        """The user and the password."""
        return self.user or _DEFAULT_USER, self.password


def parse(url: str) -> BrokerUrl:
    """Read ``url``.

    Raises:
        SettingsError: it is none, or has parts without a meaning here.
    """
    scheme = _SCHEME.match(url)
    if scheme is None or (is_secure := _SCHEMES.get(scheme[1].lower())) is None:
        named = f", not {scheme[0].lower()}" if scheme else ""
        raise SettingsError(f"settings: [broker] url must begin with amqp:// or amqps://{named}")
    if "@" in _UP_TO_HOST.sub("", url, count=1):  # of a password, then
        raise SettingsError(_UNESCAPED)
    if re.search(r"[\s\\]", url):
        raise SettingsError(f"{_UNESCAPED}; a space is %20")
    try:
        parts = urllib.parse.urlsplit(url)
        if "," in parts.netloc.rpartition("@")[2]:
            raise SettingsError(
                "settings: [broker] url: several nodes are several whole URLs, with commas between them"
            )
        port = parts.port
        user, password = _decoded(parts.username), _decoded(parts.password)
        host = _decoded(parts.hostname)
        virtual_host = _decoded(parts.path[1:])
    except ValueError:  # its text repeats the password
        raise SettingsError(_UNESCAPED) from None
    if parts.fragment or url.endswith("#") or port == 0:
        raise SettingsError(_UNESCAPED)
    return BrokerUrl(
        is_secure=is_secure,
        host=host or "localhost",
        port=port or _PORTS[is_secure],
        user=user or None,
        password=password or _DEFAULT_USER,
        # What follows the first slash; where that is nothing, all libraries mean the virtual host /.
        virtual_host=virtual_host or "/",
        options=read_query(parts.query, is_secure=is_secure),
    )


def shown(url: str) -> str:
    """``url`` without its password, for logs and errors."""
    try:
        parts = urllib.parse.urlsplit(url)
        user = f"{parts.username}@" if parts.username else ""
        host = parts.hostname or ""
        host = f"[{host}]" if ":" in host else host
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "not a URL"
    return f"{parts.scheme}://{user}{host}{port}{parts.path}"


def _decoded(text: str | None) -> str:
    return urllib.parse.unquote(text or "", errors="strict")
