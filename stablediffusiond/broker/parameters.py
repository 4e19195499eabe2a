"""pika's connection parameters out of our settings, TLS included."""

import ssl
import urllib.parse

import pika

from stablediffusiond.errors import SettingsError
from stablediffusiond.settings import BrokerSettings


def parameters(settings: BrokerSettings, name: str) -> pika.URLParameters:
    """Parameters for one try to connect; ``name`` is what the broker's operator sees beside the connection.

    Raises:
        SettingsError: the URL or a TLS file cannot work.
    """
    url = settings.url.get_secret_value()
    if not url.startswith(("amqp://", "amqps://")):
        scheme = url.partition(":")[0]
        raise SettingsError(f"settings: [broker] url must begin with amqp:// or amqps://, not {scheme!r}")
    try:
        made = pika.URLParameters(url)
    except (ValueError, TypeError) as error:
        raise SettingsError(f"settings: [broker] url ({shown(settings)}) is not an AMQP URL: {error}") from None
    made.client_properties = {"connection_name": name}
    made.heartbeat = settings.heartbeat_seconds
    made.blocked_connection_timeout = settings.blocked_timeout_seconds
    made.socket_timeout = settings.connect_timeout_seconds / 2
    made.stack_timeout = settings.connect_timeout_seconds
    made.connection_attempts = 1
    if made.ssl_options is not None:
        made.ssl_options = pika.SSLOptions(_tls(settings), made.host)
    return made


def shown(settings: BrokerSettings) -> str:
    """The broker's URL without its password, for logs and errors."""
    try:
        url = urllib.parse.urlsplit(settings.url.get_secret_value())
        user = f"{url.username}@" if url.username else ""
        port = f":{url.port}" if url.port else ""
    except ValueError:
        return "not a URL"
    return f"{url.scheme}://{user}{url.hostname or ''}{port}{url.path}"


def _tls(settings: BrokerSettings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
        if settings.certificate_file:
            context.load_cert_chain(settings.certificate_file, settings.key_file)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(f"settings: [broker] TLS files cannot be used: {error}") from None
    return context
