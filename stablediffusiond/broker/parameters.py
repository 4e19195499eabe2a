"""pika's connection parameters out of our settings."""

import re
import urllib.parse
from typing import Final

import pika
from pika.credentials import ExternalCredentials

from stablediffusiond.broker import tls
from stablediffusiond.errors import SettingsError
from stablediffusiond.settings import BrokerSettings

#: pika looks whether anything came every heartbeat and these seconds, and needs to look twice: asked for a heartbeat so
#: much shorter it notices a silent broker within two of those that the settings name.
_PIKA_GRACE_SECONDS: Final = 5
_SHORTEST_HEARTBEAT_SECONDS: Final = 5
#: A URL up to the end of its host.
_UP_TO_HOST: Final = re.compile(r"^amqps?://[^/?#]*")
_UNESCAPED: Final = (
    "settings: [broker] url is not an AMQP URL: amqp://user:password@host:port/vhost; in the password, / # ? @ : and % "
    "are written %2F %23 %3F %40 %3A and %25"
)


def parameters(settings: BrokerSettings, url: str, name: str) -> pika.URLParameters:
    """Parameters for one try to connect to ``url``; ``name`` is what the broker's operator sees beside the connection.

    Raises:
        SettingsError: the URL or a TLS file cannot work.
    """
    if not url.startswith(("amqp://", "amqps://")):
        raise SettingsError("settings: [broker] url must begin with amqp:// or amqps://")
    if "@" in _UP_TO_HOST.sub("", url, count=1):  # of a password, then, which no error may show a piece of
        raise SettingsError(_UNESCAPED)
    try:
        made = pika.URLParameters(url)
    except (ValueError, TypeError):  # whose words repeat what they stumble over
        raise SettingsError(_UNESCAPED) from None
    made.client_properties = {"connection_name": name}
    made.heartbeat = max(_SHORTEST_HEARTBEAT_SECONDS, settings.heartbeat_seconds - _PIKA_GRACE_SECONDS)
    made.blocked_connection_timeout = settings.blocked_timeout_seconds
    made.socket_timeout = settings.connect_timeout_seconds / 2
    made.stack_timeout = settings.connect_timeout_seconds
    made.connection_attempts = 1
    if made.ssl_options is not None:
        made.ssl_options = pika.SSLOptions(tls.context(settings), made.host)
    if is_external(settings, url):
        made.credentials = ExternalCredentials()
    return made


def is_external(settings: BrokerSettings, url: str) -> bool:
    """Whether it is by our certificate that the broker knows who we are: there is one, and the URL names no user."""
    parts = urllib.parse.urlsplit(url)
    return parts.scheme == "amqps" and parts.username is None and settings.certificate_file is not None


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
