"""pika's connection parameters out of our settings."""

from typing import Final

import pika
from pika.credentials import ExternalCredentials

from stablediffusiond.broker import tls
from stablediffusiond.broker.url import BrokerUrl, parse
from stablediffusiond.errors import SettingsError
from stablediffusiond.settings import BrokerSettings

#: pika looks whether anything came every heartbeat and these seconds, and needs to look twice: asked for a heartbeat so
#: much shorter it notices a silent broker within two of those that the settings name.
_PIKA_GRACE_SECONDS: Final = 5
_SHORTEST_HEARTBEAT_SECONDS: Final = 5


def with_url(settings: BrokerSettings, url: BrokerUrl) -> BrokerSettings:
    """``settings``, with what ``url`` says in their place."""
    options = {name: value for name, value in url.options.items() if name in BrokerSettings.model_fields}
    return settings.model_copy(update=options)


def parameters(settings: BrokerSettings, url: str, name: str) -> pika.ConnectionParameters:
    """Parameters for one try to connect to ``url``; ``name`` is what the broker's operator sees beside the connection.

    Raises:
        SettingsError: the URL or a TLS file cannot work.
    """
    parsed = parse(url)
    settings = with_url(settings, parsed)
    made = pika.ConnectionParameters(
        host=parsed.host,
        port=parsed.port,
        virtual_host=parsed.virtual_host,
        credentials=pika.PlainCredentials(*parsed.credentials),
        client_properties={"connection_name": name},
        heartbeat=max(_SHORTEST_HEARTBEAT_SECONDS, settings.heartbeat_seconds - _PIKA_GRACE_SECONDS),
        blocked_connection_timeout=settings.blocked_timeout_seconds,
        socket_timeout=settings.connect_timeout_seconds / 2,
        stack_timeout=settings.connect_timeout_seconds,
        connection_attempts=1,
    )
    for limit in ("channel_max", "frame_max", "socket_timeout"):
        if limit in parsed.options:
            setattr(made, limit, parsed.options[limit])
    if parsed.is_secure:
        server_name = str(parsed.options.get("server_name", parsed.host))
        made.ssl_options = pika.SSLOptions(tls.context(settings), server_name)
    if is_external(settings, url):
        made.credentials = ExternalCredentials()
    return made


def is_external(settings: BrokerSettings, url: str) -> bool:
    """Whether it is by our certificate that the broker knows who we are: there is one, and the URL names no user.

    Raises:
        SettingsError: the URL asks for it, and there is no certificate.
    """
    parsed = parse(url)
    has_certificate = parsed.is_secure and with_url(settings, parsed).certificate_file is not None
    asked = parsed.options.get("auth_mechanism")
    if asked == "external" and not has_certificate:
        raise SettingsError(
            "settings: [broker] url: 'external' needs amqps:// and a certificate ([broker] certificate_file)"
        )
    return asked == "external" or (asked is None and has_certificate and parsed.user is None)
