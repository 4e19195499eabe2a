"""amqps to a real node that asks for a certificate, and that knows users by theirs."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from stablediffusiond.broker.connection import Connection
from stablediffusiond.errors import BrokerError, BrokerRefused, SettingsError
from stablediffusiond.settings import BrokerSettings
from tools.private_broker import PrivateBroker, free_port

_CONFIG = """
listeners.ssl.1 = 127.0.0.1:{port}
ssl_options.cacertfile = {folder}/ca.pem
ssl_options.certfile = {folder}/server.pem
ssl_options.keyfile = {folder}/server.pem
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = true
auth_mechanisms.1 = PLAIN
auth_mechanisms.2 = EXTERNAL
ssl_cert_login_from = common_name
"""


@dataclass
class SecureBroker:
    node: PrivateBroker
    folder: Path
    port: int

    async def open(self, url: str = "amqps://guest:guest@localhost:{port}/%2F", **files: str) -> None:
        """Connect with ``files`` as [broker] names them; the right ones where nothing is said."""
        named = {"ca_file": "ca.pem", "certificate_file": "client.pem"} | files
        paths = {key: self.folder / name for key, name in named.items() if name}
        url = url.format(port=self.port)
        connection = await Connection.open(BrokerSettings.model_validate({"url": url, **paths}), "test")
        await connection.close()


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureBroker]:
    folder = tmp_path_factory.mktemp("tls")
    ours, theirs = trustme.CA(), trustme.CA()
    certificates = {
        "server.pem": ours.issue_cert("localhost"),
        "client.pem": ours.issue_cert("a@localhost", common_name="drawer"),
        "nobody.pem": ours.issue_cert("a@localhost", common_name="nobody"),
        "foreign.pem": theirs.issue_cert("a@localhost", common_name="drawer"),
    }
    ours.cert_pem.write_to_path(folder / "ca.pem")
    theirs.cert_pem.write_to_path(folder / "their-ca.pem")
    for name, certificate in certificates.items():
        certificate.private_key_and_cert_chain_pem.write_to_path(folder / name)
    port = free_port()
    config = _CONFIG.format(port=port, folder=folder)
    with PrivateBroker(config=config, plugins=("rabbitmq_auth_mechanism_ssl",)) as node:
        node.evaluate("rabbit:await_startup().")  # the plain listener comes first
        yield SecureBroker(node, folder, port)


async def test_the_right_files_lead_in(secure: SecureBroker) -> None:
    await secure.open()


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"ca_file": "their-ca.pem"}, r"\[broker\] ca_file names the authority"),
        ({"ca_file": ""}, r"\[broker\] ca_file names the authority"),
        ({"certificate_file": ""}, r"the broker wants a certificate of ours; \[broker\] certificate_file names it"),
        ({"certificate_file": "foreign.pem"}, r"the broker does not know who signed our certificate"),
        ({"url": "amqps://guest:guest@127.0.0.1:{port}/%2F"}, r"\[broker\] url has to name the broker as its cert"),
        ({"url": "amqps://guest:sesame@localhost:{port}/%2F"}, r"wrong user or password"),
        ({"url": "amqps://localhost:{port}/%2F", "certificate_file": "nobody.pem"}, r"no user belongs to our certifi"),
    ],
    ids=["other CA", "system's CAs", "no certificate", "foreign certificate", "other name", "password", "no user"],
)
async def test_a_wrong_one_is_refused_in_one_line_that_says_which(
    secure: SecureBroker, files: dict[str, str], expected: str
) -> None:
    with pytest.raises(BrokerRefused, match=expected) as caught:
        await secure.open(**files)
    assert "\n" not in str(caught.value)
    assert "sesame" not in str(caught.value)


async def test_without_a_user_in_the_url_the_certificate_says_who_we_are(secure: SecureBroker) -> None:
    secure.node.ctl("add_user", "drawer", "never said")
    secure.node.ctl("set_permissions", "drawer", "", "", "")
    secure.node.ctl("change_password", "guest", "another")  # pika says guest:guest where a URL names nobody
    try:
        await secure.open("amqps://localhost:{port}/%2F")
    finally:
        secure.node.ctl("change_password", "guest", "guest")


async def test_a_port_without_tls_is_named(secure: SecureBroker) -> None:
    with pytest.raises(BrokerError, match="no TLS is spoken on this port; amqps usually has port 5671"):
        await secure.open(f"amqps://guest:guest@localhost:{secure.node.port}/%2F")


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ({"ca_file": "none.pem"}, r"\[broker\] ca_file: .*none\.pem cannot be read: No such file or directory"),
        ({"certificate_file": "none.pem"}, r"\[broker\] certificate_file: .*none\.pem cannot be read"),
        ({"certificate_file": "ca.pem"}, r"\[broker\] TLS files cannot be used"),
    ],
    ids=["no authority", "no certificate", "no key"],
)
async def test_a_file_that_cannot_be_used_is_an_error_of_the_settings(
    secure: SecureBroker, files: dict[str, str], complaint: str
) -> None:
    with pytest.raises(SettingsError, match=complaint):
        await secure.open(**files)
