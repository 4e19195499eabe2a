"""Behind nginx and Caddy, with the configurations of docs/gateway.md."""

import os
import re
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme

from tests.gateway.conftest import BODY, Running, read_events, running
from tools.private_broker import PrivateBroker

TEXT = (Path(__file__).parents[2] / "docs/gateway.md").read_text("utf-8")
NAME = "pictures.example"
TOKEN = "a" * 16


@dataclass
class Proxied:
    """A client that reaches the gateway by its public name."""

    served: Running
    client: httpx.Client

    def request(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        return self.client.request(method, path, extensions={"sni_hostname": NAME}, **arguments)


def configuration(begins: str) -> str:
    """The example in the documents that begins so."""
    found = re.search(rf"^    {re.escape(begins)}.*?^    }}$", TEXT, re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[0]


def nginx(folder: Path, port: int, address: str, pem: Path, key: Path) -> list[str]:
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin")
    assert program, "nginx is not installed; run: sudo apt-get install nginx"
    server = configuration("server {").replace("listen 443", f"listen 127.0.0.1:{port}")
    server = server.replace("/etc/ssl/pictures.pem", f'"{pem}"').replace("/etc/ssl/pictures.key", f'"{key}"')
    paths = [f'{each}_temp_path "{folder}/{each}";' for each in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")]
    lines = ["daemon off;", f'pid "{folder}/pid";', *(["user root;"] if os.geteuid() == 0 else []), "events {}"]
    lines += ["http {", "access_log off;", *paths, server.replace("http://localhost:50008", address), "}"]
    (folder / "nginx.conf").write_text("\n".join(lines))
    return [program, "-e", "stderr", "-p", str(folder), "-c", str(folder / "nginx.conf")]


def caddy(folder: Path, port: int, address: str, pem: Path, key: Path) -> list[str]:
    program = shutil.which("caddy")
    assert program, "caddy is not installed; run: sudo apt-get install caddy"
    site = configuration(f"{NAME} {{").replace("localhost:50008", address.removeprefix("http://"))
    site = site.replace(f"{NAME} {{", f'{NAME} {{\nbind 127.0.0.1\ntls "{pem}" "{key}"')
    options = f"{{\nadmin off\nauto_https disable_redirects\nhttps_port {port}\n}}\n"
    (folder / "Caddyfile").write_text(options + site)
    return [program, "run", "--adapter", "caddyfile", "--config", str(folder / "Caddyfile")]


@contextmanager
def started(command: list[str], folder: Path, client: httpx.Client) -> Iterator[None]:
    environment = {**os.environ, "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        while True:
            assert process.poll() is None, (folder / "log").read_text()
            try:
                client.get("/healthz", extensions={"sni_hostname": NAME})
                break
            except httpx.ConnectError:
                continue
        yield
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="module")
def behind(broker: PrivateBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    settings = {"token": TOKEN, "public_url": f"https://{NAME}"}
    with running(broker, tmp_path_factory.mktemp("behind"), settings) as made:
        yield made


@pytest.fixture(params=[nginx, caddy])
def proxied(request: pytest.FixtureRequest, behind: Running, tmp_path: Path, free_port: int) -> Iterator[Proxied]:
    authority = trustme.CA()
    certificate = authority.issue_cert(NAME)
    pem, key = tmp_path / "pictures.pem", tmp_path / "pictures.key"
    for each in certificate.cert_chain_pems:
        each.write_to_path(pem, append=True)
    certificate.private_key_pem.write_to_path(key)
    trusted = ssl.create_default_context()
    authority.configure_trust(trusted)
    headers = {"Host": NAME, "Authorization": f"Bearer {TOKEN}"}
    with httpx.Client(
        base_url=f"https://127.0.0.1:{free_port}", headers=headers, verify=trusted, timeout=60, trust_env=False
    ) as client:
        command = request.param(tmp_path, free_port, behind.address, pem, key)
        with started(command, tmp_path, client):
            yield Proxied(behind, client)


def test_events_come_as_they_are_and_addresses_are_public(proxied: Proxied) -> None:
    job = proxied.request("POST", "/jobs", json={**BODY, "steps": 150}).json()["id"]
    with proxied.client.stream("GET", f"/jobs/{job}/events", extensions={"sni_hostname": NAME}) as answer:
        events = read_events(answer)
        assert next(events).name in {"progress", "preview"}
        assert proxied.request("GET", f"/jobs/{job}").json()["state"] == "drawing"
        image = next(event for event in events if event.name == "image")
    url = httpx.URL(image.data["url"])
    assert (url.scheme, url.host, url.port) == ("https", NAME, None)
    assert len(proxied.request("GET", url.raw_path.decode()).content) == image.data["bytes"]


def test_large_bodies_come_through_and_larger_ones_do_not(proxied: Proxied) -> None:
    large = b'{"prompt": "x", "nothing": "' + b"x" * 20_000_000 + b'"}'
    answer = proxied.request("POST", "/jobs", content=large)
    assert (answer.status_code, answer.json()["error"]["field"]) == (400, "nothing")
    assert proxied.request("POST", "/jobs", content=large * 2).status_code == 413


def test_only_our_own_page_and_name_and_those_with_a_token(proxied: Proxied) -> None:
    assert proxied.request("GET", "/jobs", headers={"Origin": f"https://{NAME}"}).status_code == 200
    assert proxied.request("GET", "/jobs", headers={"Origin": "https://evil.example"}).status_code == 403
    assert proxied.request("GET", "/jobs", headers={"Authorization": ""}).status_code == 401
    other = proxied.request("GET", "/jobs", headers={"Host": "evil.example"})
    assert other.status_code in {403, 421} or other.content == b""


def test_without_a_public_address_the_proxy_says_that_there_is_tls(served: Running) -> None:
    job = served.draw()["id"]
    answer = served.client.get(f"/jobs/{job}", headers={"X-Forwarded-Proto": "https"})
    assert answer.json()["images"][0]["url"].startswith(served.address.replace("http:", "https:"))
