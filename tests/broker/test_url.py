"""URLs as other libraries write them: what they mean here, or the error that names what does not mean anything."""

import urllib.parse
from pathlib import Path
from typing import Any

import pytest
import trustme
from pika.credentials import ExternalCredentials
from pydantic import SecretStr

from stablediffusiond.broker.parameters import is_external, parameters, with_url
from stablediffusiond.broker.url import _SCHEMES, parse, shown
from stablediffusiond.broker.url_query import _MEANINGS
from stablediffusiond.errors import SettingsError
from stablediffusiond.settings import BrokerSettings

#: What a table of URLs leaves out.
DEFAULTS = {
    "is_secure": False, "host": "localhost", "port": 5672, "credentials": ("guest", "guest"), "virtual_host": "/",
    "options": {},
}  # fmt: skip


@pytest.mark.parametrize(
    ("url", "means"),
    [
        # RabbitMQ's specification: every part may be left out
        ("amqp://", {}),
        ("amqp://host", {"host": "host"}),
        ("amqp://:10000", {"port": 10000}),
        ("amqp://host:10000", {"host": "host", "port": 10000}),
        ("amqp:///vhost", {"virtual_host": "vhost"}),
        ("amqp://host/vhost", {"host": "host", "virtual_host": "vhost"}),
        ("amqp://user:pass@host:10000/vhost", {"credentials": ("user", "pass"), "host": "host", "port": 10000, "virtual_host": "vhost"}),
        ("amqp://user%61:%61pass@ho%61st:10000/v%2fhost", {"credentials": ("usera", "apass"), "host": "hoast", "port": 10000, "virtual_host": "v/host"}),
        ("amqp://user:p%40ss%2Fw%3Ard%23%3F%25@host", {"credentials": ("user", "p@ss/w:rd#?%"), "host": "host"}),
        ("amqp://user:p@ss+1@host", {"credentials": ("user", "p@ss+1"), "host": "host"}),
        ("amqp://user:%C3%A4@host", {"credentials": ("user", "ä"), "host": "host"}),
        ("amqp://[::1]", {"host": "::1"}),
        ("amqp://user:pass@[fe80::1%25eth0]:5673/", {"host": "fe80::1%eth0", "port": 5673, "credentials": ("user", "pass")}),
        # the virtual host /, and others with and without a slash of their own
        ("amqp://guest:guest@localhost:5672/%2F", {}),
        ("amqp://guest:guest@localhost:5672/%2f", {}),
        ("amqp://guest:guest@localhost:5672//", {}),
        ("amqp://guest:guest@localhost:5672/", {}),
        ("amqp://guest:guest@localhost:5672", {}),
        ("amqp://localhost//team", {"virtual_host": "/team"}),
        ("amqp://localhost/%2Fteam", {"virtual_host": "/team"}),
        ("amqp://localhost/team/a", {"virtual_host": "team/a"}),
        ("amqp://localhost/my%20host", {"virtual_host": "my host"}),
        # Celery and kombu
        ("pyamqp://guest@localhost//", {}),
        ("amqp://guest@localhost//", {}),
        ("amqp://me@localhost//", {"credentials": ("me", "guest")}),
        ("librabbitmq://localhost", {}),
        ("AMQP://localhost", {}),
        ("amqps://host", {"is_secure": True, "host": "host", "port": 5671}),
        ("AmqpS://host:5672/", {"is_secure": True, "host": "host"}),
        ("amqps://host?ssl_ca_certs=/ca.pem&ssl_certfile=/c.pem&ssl_keyfile=/k.pem&ssl_cert_reqs=CERT_REQUIRED", {"is_secure": True, "host": "host", "port": 5671, "options": {"ca_file": Path("/ca.pem"), "certificate_file": Path("/c.pem"), "key_file": Path("/k.pem")}}),
        ("amqp://localhost//?heartbeat=30&login_method=PLAIN", {"options": {"heartbeat_seconds": 30, "auth_mechanism": "plain"}}),
        # pika
        ("amqp://localhost/%2F?heartbeat=600&blocked_connection_timeout=300.5&socket_timeout=5&stack_timeout=9", {"options": {"heartbeat_seconds": 600, "blocked_timeout_seconds": 300.5, "socket_timeout": 5, "connect_timeout_seconds": 9}}),
        ("amqp://localhost/?channel_max=100&frame_max=4096&locale=en_US", {"options": {"channel_max": 100, "frame_max": 4096}}),
        ("amqps://localhost/?ssl_options=%7B%27ca_certs%27%3A+%27/ca.pem%27%7D".replace("+", "%20"), {"is_secure": True, "port": 5671, "options": {"ca_file": Path("/ca.pem")}}),
        # aio-pika
        ("amqps://localhost/?cafile=/a+b.pem&no_verify_ssl=0&timeout=3&auth=external", {"is_secure": True, "port": 5671, "options": {"ca_file": Path("/a+b.pem"), "connect_timeout_seconds": 3, "auth_mechanism": "external"}}),
        # RabbitMQ's own, Go, Ruby, Java: milliseconds
        ("amqps://h?cacertfile=/ca&certfile=/c&keyfile=/k&verify=verify_peer&server_name_indication=rabbit&auth_mechanism=external&heartbeat=15&connection_timeout=2500&channel_max=16", {"is_secure": True, "host": "h", "port": 5671, "options": {"ca_file": Path("/ca"), "certificate_file": Path("/c"), "key_file": Path("/k"), "server_name": "rabbit", "auth_mechanism": "external", "heartbeat_seconds": 15, "connect_timeout_seconds": 2.5, "channel_max": 16}}),
        # Node
        ("amqp://localhost?frameMax=8192&channelMax=7&heartbeat=5", {"options": {"frame_max": 8192, "channel_max": 7, "heartbeat_seconds": 5}}),
    ],
)  # fmt: skip
def test_what_it_means(url: str, means: dict[str, Any]) -> None:
    parsed = parse(url)
    assert {name: getattr(parsed, name) for name in DEFAULTS} == {**DEFAULTS, **means}


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("localhost", "must begin with amqp:// or amqps://"),
        ("redis://localhost:6379/0", "must begin with amqp:// or amqps://, not redis://"),
        ("rabbitmq://localhost/", "not rabbitmq://"),
        ("amqp:localhost", "must begin with amqp://"),
        ("amqp://host:port/", "not an AMQP URL"),
        ("amqp://host:0/", "not an AMQP URL"),
        ("amqp://host:65536/", "not an AMQP URL"),
        ("amqp://host/vhost#part", "not an AMQP URL"),
        ("amqp://host/my host", "a space is %20"),
        ("amqp://host/%FF", "not an AMQP URL"),
        ("amqp://[::1/", "not an AMQP URL"),
        ("amqp://me:pw@one:5672,two:5672/", "several nodes are several whole URLs"),
        ("amqp://h?heartbeat=0", "'heartbeat' must be 5 to 600 seconds: without, a dead broker is not noticed"),
        ("amqp://h?heartbeat=601", "'heartbeat' must be"),
        ("amqp://h?heartbeat=often", "'heartbeat' must be"),
        ("amqp://h?heartbeat", "name=value"),
        ("amqp://h?heartbeat=10&heartbeat=20", "'heartbeat' contradicts an earlier part"),
        ("amqp://h?stack_timeout=5&timeout=6", "'timeout' contradicts an earlier part"),
        ("amqp://h?heartbet=10", "'heartbet' has no meaning here: did you mean 'heartbeat'?"),
        ("amqp://h?exchange%5Bname%5D=x", "'exchange[name]' has no meaning here: leave it out"),
        ("amqp://h?connection_attempts=3&retry_delay=5", "'connection_attempts' has no meaning here: connections are made again"),
        ("amqp://h?reconnect_interval=5", "reconnect_min_seconds"),
        ("amqp://h?client_properties=%7B%7D", "connections have names of ours"),
        ("amqp://h?name=me", "connections have names of ours"),
        ("amqp://h?tcp_options=%7B%7D", "heartbeats"),
        ("amqp://h?vhost=team", "behind the first /"),
        ("amqp://h?ssl=true", "begins with amqps://"),
        ("amqp://h?connection_timeout=0", "milliseconds above 0"),
        ("amqp://h?timeout=inf", "seconds above 0"),
        ("amqp://h?blocked_connection_timeout=nan", "seconds above 0"),
        ("amqp://h?channel_max=0", "1 to 65535"),
        ("amqp://h?frame_max=1024", "4096 to 131072"),
        ("amqp://h?locale=de_DE", "en_US"),
        ("amqp://h?auth_mechanism=amqplain", "plain or external"),
        ("amqp://h?cacertfile=/ca.pem", "'cacertfile' needs TLS"),
        ("amqp://h?verify=verify_peer", "'verify' needs TLS"),
        ("amqps://h?verify=verify_none", "'verify' must be verify_peer; [broker] ca_file names"),
        ("amqps://h?ssl_cert_reqs=CERT_NONE", "always verified"),
        ("amqps://h?no_verify_ssl=1", "always verified"),
        ("amqps://h?server_name_indication=disable", "the name in the broker's certificate"),
        ("amqps://h?ssl_options=None", "must be a dictionary of texts"),
        ("amqps://h?ssl_options=%7B%27ciphers%27:%20%27ALL%27%7D", "'ciphers' has no meaning here"),
    ],
)  # fmt: skip
def test_what_means_nothing_is_named(url: str, expected: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse(url)
    assert expected in str(caught.value)


PASSWORD = "open%sesame"


@pytest.mark.parametrize(
    "url",
    [
        "redis://me:{}@host/", "me:{}@host", "amqp://me:{}#1@host/", "amqp://me:{}/1@host/", "amqp://me:{}?1@host/",
        "amqp://me:{}@host:x/", "amqp://me:{}@host?heartbeat=0", "amqp://me:{}@host?unknown=1", "amqp://me:{}@one,two/",
        "amqp://me:{}?heartbeat=1", "amqp://me:{}", "amqp://me:{}@[::1/", "amqp://me:{} @host/", "amqp://me:{}@host/#",
        "amqps://me:{}@host?keyfile=/k&password={}", "amqps://me:{}@host?auth_mechanism=external",
    ],
)  # fmt: skip
def test_no_error_repeats_a_password(url: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parameters(BrokerSettings(url=SecretStr("amqp://")), url.replace("{}", PASSWORD), "test")
    for piece in ("open", "sesame"):
        assert piece not in str(caught.value)


def test_nor_is_it_shown() -> None:
    for url, expected in (
        (f"amqp://me:{PASSWORD}@host:5673//team?heartbeat=9", "amqp://me@host:5673//team"),
        (f"pyamqp://me:{PASSWORD}@[::1]:5673/", "pyamqp://me@[::1]:5673/"),
        ("amqp://[", "not a URL"),
    ):
        assert shown(url) == expected
    assert PASSWORD not in repr(parse(f"amqp://me:{PASSWORD}@host"))


def test_what_it_says_stands_over_the_settings() -> None:
    settings = BrokerSettings(heartbeat_seconds=60, connect_timeout_seconds=20, blocked_timeout_seconds=99)
    url = "amqp://h/?heartbeat=30&connection_timeout=4000&channel_max=9&frame_max=5000&socket_timeout=1"
    made = parameters(settings, url, "test")
    assert (made.heartbeat, made.stack_timeout, made.socket_timeout) == (25, 4, 1)
    assert (made.blocked_connection_timeout, made.channel_max, made.frame_max) == (99, 9, 5000)
    assert with_url(settings, parse(url)).connect_timeout_seconds == 4
    unsaid = parameters(settings, "amqp://h/", "test")
    assert (unsaid.heartbeat, unsaid.stack_timeout, unsaid.socket_timeout) == (55, 20, 10)


@pytest.mark.parametrize(
    ("url", "certificate", "external"),
    [
        ("amqps://h/", True, True),
        ("amqps://h/", False, False),
        ("amqps://me:pw@h/", True, False),
        ("amqps://h/?auth_mechanism=plain", True, False),
        ("amqps://me:pw@h/?auth_mechanism=external", True, True),
        ("amqps://h/?certfile=/c.pem", False, True),
        ("amqp://h/", True, False),
    ],
)
def test_who_we_are(url: str, certificate: bool, external: bool) -> None:
    settings = BrokerSettings(certificate_file=Path("/mine.pem") if certificate else None)
    assert is_external(settings, url) == external


def test_a_certificate_that_is_asked_for_has_to_be_there() -> None:
    for url in ("amqp://h/?auth_mechanism=external", "amqps://h/?auth_mechanism=external"):
        with pytest.raises(SettingsError, match="certificate_file"):
            parameters(BrokerSettings(), url, "test")


@pytest.mark.parametrize(
    "text",
    [
        "amqp://a//;amqp://b//", "amqp://a//,amqp://b//", "amqp://a// ; amqp://b//;", "amqp://a//\n amqp://b//\n",
        "\tamqp://a//,\r\namqp://b//",
    ],
)  # fmt: skip
def test_several_nodes(text: str) -> None:
    assert BrokerSettings(url=SecretStr(text)).urls == ["amqp://a//", "amqp://b//"]


def test_several_nodes_of_different_kinds() -> None:
    text = "pyamqp://guest@a//;amqps://me:p,w;1@b:5671/team?heartbeat=9"
    assert BrokerSettings(url=SecretStr(text)).urls == text.split(";", 1)


def test_a_certificate_says_who_we_are_in_place_of_a_password(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    authority.issue_cert("me").private_key_and_cert_chain_pem.write_to_path(tmp_path / "me.pem")
    folder = urllib.parse.quote(str(tmp_path))
    url = f"amqps://h/?cacertfile={folder}/ca.pem&certfile={folder}/me.pem&server_name_indication=rabbit"
    made = parameters(BrokerSettings(), url, "test")
    assert isinstance(made.credentials, ExternalCredentials)
    assert made.ssl_options is not None
    assert made.ssl_options.server_hostname == "rabbit"


def test_the_manual_has_every_name() -> None:
    manual = (Path(__file__).parents[2] / "docs/operations.md").read_text("utf-8")
    section = manual.partition("## The broker's URL")[2].partition("\n## ")[0]
    missing = [name for name in (*_MEANINGS, *_SCHEMES) if f"`{name}`" not in section and f"`{name}://`" not in section]
    assert missing == []
