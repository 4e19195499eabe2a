"""`sudo ./install.sh uninstall`, after all other tests of the machine."""

import pytest

from tests.system.installation import SERVICES, SETTINGS, Installation

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]


def test_nothing_is_left_but_what_is_to_be_kept(installed: Installation) -> None:
    machine = installed.machine
    installed.install("uninstall")
    gone = [*(f"systemctl cat {service}" for service in SERVICES), "ls /opt/stablediffusiond", "stablediffusion_client"]
    for each in gone:
        machine.run(f"! {each}")
    assert machine.read(SETTINGS)
    installed.install("uninstall --purge")
    gone = ["id stablediffusiond", "getent group stablediffusion", "ls /etc/stablediffusiond"]
    for each in (*gone, "ls /var/lib/stablediffusiond"):
        machine.run(f"! {each}")
    assert "stablediffusion" not in machine.root("rabbitmqctl -q list_users; rabbitmqctl -q list_vhosts")
    kept = ("/home/", "/var/log/", "/tmp/", "/root/")
    assert [path for path in machine.written("*stablediffusi*") if not path.startswith(kept)] == []
