"""`sudo ./install.sh` and what the README says after it, on a machine with a real systemd."""

import io
import re

import pytest
from PIL import Image

from tests.end_to_end.test_readme import CHECKOUT
from tests.system.installation import BROKER_URL, GPUS, REQUESTS, RESPONSES, SERVICES, SETTINGS, Installation

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

OPERATIONS = (CHECKOUT / "docs/operations.md").read_text("utf-8")


def test_the_commands_of_the_readme(installed: Installation) -> None:
    assert installed.printed.count("Active: active (running)") == 2
    assert " done: 1 pictures" in installed.printed
    with Image.open(io.BytesIO(installed.first_red_cat)) as drawn:
        assert drawn.size == (128, 128)


def test_without_ipv6_it_listens_on_what_there_is(installed: Installation) -> None:
    installed.machine.run("timeout 20 nc -z 127.0.0.1 50007; ! timeout 20 nc -z ::1 50007")
    installed.machine.network.set_ipv6(on=True)
    installed.machine.run("timeout 20 nc -z ::1 50007")


def test_gpus_that_belong_to_no_group_of_devices_may_be_opened_by_who_draws(installed: Installation) -> None:
    joining = f"echo $BASHPID > /sys/fs/cgroup/system.slice/{REQUESTS}/cgroup.procs"
    for node in GPUS:
        installed.machine.root(f"({joining}; exec 3<>{node})")
    # And no other: these are the kernel's log.
    installed.machine.root(f"mknod -m 666 /dev/other c 1 11; exec 3<>/dev/other; ! ({joining}; exec 3<>/dev/other)")
    allowed = installed.machine.root("systemctl show -P DeviceAllow stablediffusiond@0.service")
    assert [node for node in GPUS if f"{node} rw" not in allowed] == []


def test_a_second_run_keeps_settings_and_passwords_and_sees_what_devices_there_are(installed: Installation) -> None:
    installed.machine.root(f"rm -r {' '.join(GPUS)} /dev/nvgpu")
    installed.machine.root(f"echo '# mine' >> {SETTINGS}; sed -i /drain_seconds/d {SETTINGS}")
    before = installed.machine.read(BROKER_URL)
    assert "new since then, and at its default: [engine] drain_seconds" in installed.install()
    assert b"# mine" in installed.machine.read(SETTINGS)
    assert installed.machine.read(BROKER_URL) == before
    assert "/dev/" not in installed.machine.root(f"systemctl show -P DeviceAllow {REQUESTS}")
    assert installed.red_cat() == installed.first_red_cat


def test_only_the_group_may_use_it(installed: Installation) -> None:
    installed.machine.root("useradd tests-bob")
    printed = installed.machine.root("cd /tmp; ! runuser -u tests-bob -- stablediffusion_client cat")
    assert "ask to be taken into the group stablediffusion" in printed
    assert "PLAIN login refused" not in printed


def test_the_group_has_a_socket_of_its_own(installed: Installation) -> None:
    path = "/run/stablediffusiond/responses.sock"
    assert installed.machine.run(f"stat -c '%U %G %a' {path}") == "root stablediffusion 660\n"
    by_it = f"env STABLEDIFFUSIOND_RESPONSES__SOCKET={path}"
    drawing = f"{by_it} stablediffusion_client 'a red cat' --seed 42 -o by-file.png"
    installed.machine.run(f'sg stablediffusion -c "{drawing}"')
    assert installed.picture("by-file.png") == installed.first_red_cat
    url = "STABLEDIFFUSIOND_BROKER__URL=amqp://nobody@localhost/"
    assert "Permission denied; ask to be taken into the group" in installed.machine.root(
        f"cd /tmp; ! runuser -u tests-bob -- {by_it} {url} stablediffusion_client cat"
    )


def test_a_token_that_the_operations_manual_sets_up_is_asked_for(installed: Installation) -> None:
    machine = installed.machine
    [command] = re.findall(r"^    (openssl rand .*)$", OPERATIONS, re.MULTILINE)
    token_file = "/etc/stablediffusiond/response-token"
    machine.root(
        f"{command}; sed -i 's|^# token_file = .*|token_file = \"{token_file}\"|' {SETTINGS};"
        f" systemctl reload {RESPONSES}"
    )
    try:
        assert "unauthorized" in machine.run("timeout 20 nc localhost 50007")
        assert installed.red_cat() == installed.first_red_cat
        machine.root(f"systemctl restart {REQUESTS}")
        secret = machine.read(token_file).decode().strip()
        assert secret not in machine.root("journalctl --no-pager; ps -ef")
    finally:
        machine.root(f"sed -i 's|^token_file = |# &|' {SETTINGS}; systemctl reload {RESPONSES}")


def test_there_are_pages_of_the_manual(installed: Installation) -> None:
    pages = ("stablediffusiond.8", "stablediffusion_responsed.8", "stablediffusion_response_query.8")
    for page in (*pages, "stablediffusion_client.1"):
        installed.machine.run(f"test -e /usr/local/share/man/man{page[-1]}/{page}")


def test_no_password_is_seen(installed: Installation) -> None:
    password = installed.machine.read(BROKER_URL).decode().split(":")[2].partition("@")[0]
    assert password not in installed.machine.root("journalctl --no-pager; ps -ef; systemctl show stablediffusiond")
    listed = installed.machine.root(
        "rabbitmqctl -q list_connections user vhost; rabbitmqctl -q list_permissions -p stablediffusiond"
    )
    assert "guest" not in listed
    assert "stablediffusiond\tstablediffusiond" in listed


def test_the_units_are_clean_and_confined(installed: Installation) -> None:
    units = f"{' '.join(SERVICES)} stablediffusiond@0.service"
    assert installed.machine.root(f"systemd-analyze verify --man=no {units}") == ""
    for service, most in zip(SERVICES, (1.5, 1.0), strict=True):
        printed = installed.machine.root(f"systemd-analyze security --no-pager {service} | tail -1")
        assert float(printed.rpartition(": ")[2].split()[0]) <= most, printed
    log = installed.machine.root("journalctl -q -u stablediffusion_responsed -o cat")
    assert "listening on" in log
    assert "sock_diag" not in log, "the kernel may be asked what clients have read"
