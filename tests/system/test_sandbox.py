"""What the units deny the daemons, and the daemons' errors that name what allows it; on machines as others have them."""

import re
import textwrap
from collections.abc import Iterator

import pytest

from tests.system.installation import BROKER_URL, REQUESTS, RESPONSES, SETTINGS, Installation
from tests.system.machine import HOME
from tests.system.network import ADDRESS, DEVICE, NAME_SERVER

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

#: A machine of the LAN: it knows names.
LAN_NAME_SERVER = "198.18.0.101"
BROKER_NAME = "rabbit.lan"
#: DNS (RFC 1035): the question as it came, and this machine's address as the answer where one of IPv4 is asked for.
NAME_SERVER_PROGRAM = f"""
    import socket
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("{LAN_NAME_SERVER}", 53))
    while True:
        asked, who = server.recvfrom(512)
        end = asked.index(0, 12) + 5
        known = asked[end - 4 : end - 2] == b"\\0\\1"
        answer = b"\\xc0\\x0c\\0\\1\\0\\1\\0\\0\\0\\0\\0\\4" + socket.inet_aton("{ADDRESS}") if known else b""
        server.sendto(asked[:2] + b"\\x81\\x80\\0\\1\\0" + bytes([known]) + b"\\0" * 4 + asked[12:end] + answer, who)
"""
ALLOWING = rf"systemctl set-property {RESPONSES} IPAddressAllow=([\d. ]+|ADDRESS)$"


def allowing(installed: Installation, addresses: str) -> str:
    """The command that the response daemon's log names to let it through to ``addresses``."""
    command = f"systemctl set-property {RESPONSES} IPAddressAllow={addresses}"
    installed.machine.root(f"until journalctl -q -u {RESPONSES} -o cat | grep -qF '{command}'; do sleep 0.2; done")
    return command


@pytest.fixture
def lan(installed: Installation) -> Iterator[None]:
    """The broker is known by a name, and the name by a server of the LAN."""
    machine = installed.machine
    machine.network.ip("addr", "add", f"{LAN_NAME_SERVER}/24", "dev", DEVICE)
    machine.root(f"cat > /run/name-server.py <<'END'\n{textwrap.dedent(NAME_SERVER_PROGRAM)}\nEND")
    machine.root("systemd-run -q --unit=name-server python3 /run/name-server.py")
    machine.root(f"echo nameserver {LAN_NAME_SERVER} > /etc/resolv.conf")
    machine.root(f"sed -i s/@localhost:/@{BROKER_NAME}:/ {BROKER_URL}; systemctl restart {REQUESTS} {RESPONSES}")
    yield
    machine.root(
        f"sed -i s/@{BROKER_NAME}:/@localhost:/ {BROKER_URL}; echo nameserver {NAME_SERVER} > /etc/resolv.conf"
    )
    machine.root(f"systemctl stop name-server; systemctl restart {REQUESTS} {RESPONSES}")


def test_the_log_says_how_to_reach_a_broker_that_a_name_server_of_the_lan_knows(
    installed: Installation, lan: None
) -> None:
    installed.machine.root(allowing(installed, LAN_NAME_SERVER))
    installed.machine.root(allowing(installed, ADDRESS))
    assert installed.red_cat() == installed.first_red_cat
    status = installed.machine.root(f"systemctl show -P StatusText {RESPONSES}")
    assert re.fullmatch(r"\d+ clients\n", status), status


@pytest.fixture
def seen_from_elsewhere(installed: Installation) -> Iterator[None]:
    """The socket and the metrics are reached under the machine's address; and again only from itself."""
    machine = installed.machine
    control = f"/etc/systemd/system.control/{RESPONSES}.d"
    drop_in = "/run/systemd/system/stablediffusion_responsed.socket.d"
    restart = f"systemctl daemon-reload; systemctl stop {RESPONSES}; systemctl restart stablediffusion_responsed.socket {RESPONSES}"
    machine.root(f"rm -rf {control}; cp {SETTINGS} /run/settings.toml; mkdir -p {drop_in}")
    machine.root(f"printf '[Socket]\\nListenStream={ADDRESS}:50007\\n' > {drop_in}/elsewhere.conf")
    machine.root(
        f'sed -i \'s/^host = "127.0.0.1"/host = "0.0.0.0"/; s/^responses_port = 0/responses_port = 9412/;'
        f' s/^# token = .*/token = "0123456789abcdef"/\' {SETTINGS}; {restart}'
    )
    yield
    machine.root(f"cp /run/settings.toml {SETTINGS}; rm -r {drop_in}; {restart}")


def test_the_socket_is_open_to_whom_systemd_opens_it_and_metrics_to_whom_the_log_says(
    installed: Installation, seen_from_elsewhere: None
) -> None:
    machine = installed.machine
    assert "unauthorized" in machine.run(f"timeout 20 nc {ADDRESS} 50007")
    asking = f"python3 -c 'import urllib.request as u; u.urlopen(\"http://{ADDRESS}:9412/metrics\", timeout=3)' 2>&1"
    assert "timed out" in machine.run(f"! {asking}")
    machine.root(allowing(installed, "ADDRESS").replace("ADDRESS", ADDRESS))
    machine.run(asking)


def test_a_model_under_home_is_seen_with_the_drop_in_that_the_error_names(installed: Installation) -> None:
    machine = installed.machine
    model = f"{HOME}/models/doodle"
    doodle = "$(echo /opt/stablediffusiond/lib/python3*/site-packages/stablediffusiond/doodle)"
    machine.run(f"mkdir models; cp -r {doodle} {model}; chmod -R a+rX models")
    drop_in = f"/run/systemd/system/{REQUESTS}.d/home.conf"
    machine.root(f"sed -i 's|^name = .*|name = \"{model}\"|' {SETTINGS}; systemctl restart --no-block {REQUESTS}")
    try:
        machine.root(f"until [ $(systemctl show -P ExecMainStatus {REQUESTS}) = 78 ]; do sleep 0.2; done")
        log = machine.root(f"journalctl -u {REQUESTS} -o cat -n 20")
        explained = rf"{REQUESTS} does not see it \(ProtectHome=\); let a drop-in say (\S+) and (\S+) \(systemctl edit {REQUESTS}\)"
        [(first, second)] = set(re.findall(explained, log))
        machine.root(f"mkdir -p $(dirname {drop_in}); printf '[Service]\\n{first}\\n{second}\\n' > {drop_in}")
        machine.root(f"systemctl daemon-reload; systemctl restart {REQUESTS}")
        assert installed.red_cat() == installed.first_red_cat
    finally:
        machine.root(f"rm -rf {drop_in}; sed -i 's|^name = .*|name = \"doodle\"|' {SETTINGS}")
        machine.root(f"systemctl daemon-reload; systemctl restart {REQUESTS}")
