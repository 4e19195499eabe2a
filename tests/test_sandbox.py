"""A failure that a systemd unit has caused is explained, and no other is."""

import socket
from pathlib import Path

import pytest

from stablediffusiond import sandbox
from stablediffusiond.errors import SettingsError
from stablediffusiond.settings import load

UNIT = "stablediffusiond@0.service"
DENIED = {"198.18.0.100", "198.18.0.101", "2001:db8::1"}
#: As the kernel shows them inside units of systemd 252.
BASE = "500 400 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n"
MOUNTS = {
    "yes": "510 500 0:25 /systemd/inaccessible/dir /home ro,nosuid,nodev,noexec - tmpfs tmpfs rw,size=4096k,mode=755\n",
    "tmpfs": "511 500 0:80 / /home ro,nodev,relatime - tmpfs tmpfs rw,mode=755,inode64\n",
    "bound": "512 511 8:1 /home/alice/my\\040models /home/alice/my\\040models ro,relatime - ext4 /dev/sda1 rw\n",
    "disk": "513 500 8:2 / /home rw,relatime - ext4 /dev/sda2 rw\n",
    "private": "514 500 8:1 /tmp/systemd-private-0123-stablediffusiond.service-Ab/tmp /tmp rw - ext4 /dev/sda1 rw\n",
    "closed": "515 500 0:25 /systemd/inaccessible/dir /srv/private ro - tmpfs tmpfs rw\n",
}


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In a unit, with files of ours in place of the kernel's, and a firewall that lets nothing through to some."""
    cgroups, resolver = tmp_path / "cgroup", tmp_path / "resolv.conf"
    cgroups.write_text(f"0::/system.slice/system-stablediffusiond.slice/{UNIT}\n")
    resolver.write_text("search lan\nnameserver 127.0.0.53\nnameserver 198.18.0.101\nnameserver fe80::1%eth0\n")
    monkeypatch.setattr(sandbox, "_CGROUPS", cgroups)
    monkeypatch.setattr(sandbox, "_RESOLVER", resolver)
    monkeypatch.setattr(sandbox, "_may_send", lambda address: address not in DENIED)
    return tmp_path


def outside(machine: Path) -> None:
    (machine / "cgroup").write_text("0::/user.slice/user-1000.slice/session-3.scope\n")


async def test_a_name_that_is_not_found_is_the_name_servers_who_may_not_be_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*arguments: object, **more: object) -> None:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    assert await sandbox.closed_to("rabbit.invalid") == (
        f"{UNIT} may not send to 198.18.0.101 (IPAddressDeny= of the unit, or a firewall); as root: "
        f"systemctl set-property {UNIT} IPAddressAllow=198.18.0.101"
    )


@pytest.mark.parametrize("address", ["198.18.0.100", "2001:db8::1"])
async def test_an_address_that_may_not_be_sent_to_is_named(address: str) -> None:
    explanation = await sandbox.closed_to(address)
    assert explanation is not None
    assert explanation.endswith(f"IPAddressAllow={address}")


async def test_nothing_is_said_of_what_may_be_reached() -> None:
    assert await sandbox.closed_to("198.18.0.7") is None
    assert await sandbox.closed_to("localhost") is None


async def test_nothing_is_said_outside_of_a_unit(machine: Path) -> None:
    outside(machine)
    assert await sandbox.closed_to("198.18.0.100") is None
    assert sandbox.closed_from("198.18.0.100") is None
    (machine / "cgroup").unlink()
    assert await sandbox.closed_to("198.18.0.100") is None


def test_who_listens_for_others_and_is_not_reached_by_them_says_so() -> None:
    explanation = sandbox.closed_from("198.18.0.100")
    assert explanation is not None
    assert explanation.endswith(f"systemctl set-property {UNIT} IPAddressAllow=ADDRESS")
    assert sandbox.closed_from("127.0.0.1") is None
    assert sandbox.closed_from("0.0.0.0") is None


@pytest.mark.parametrize(
    ("mounts", "path", "setting", "drop_in"),
    [
        ("yes", "/home/alice/model", "ProtectHome", "ProtectHome=tmpfs and BindReadOnlyPaths=/home/alice/model"),
        ("tmpfs", "/home/a b/model", "ProtectHome", 'ProtectHome=tmpfs and BindReadOnlyPaths="/home/a b/model"'),
        ("private", "/tmp/model.safetensors", "PrivateTmp", "BindReadOnlyPaths=/tmp/model.safetensors"),
    ],
)
def test_a_file_that_the_unit_hides_is_said_to_be(
    machine: Path, monkeypatch: pytest.MonkeyPatch, mounts: str, path: str, setting: str, drop_in: str
) -> None:
    see(machine, monkeypatch, [mounts])
    assert sandbox.hides(Path(path)) == (
        f"{UNIT} does not see it ({setting}=); let a drop-in say {drop_in} (systemctl edit {UNIT})"
    )
    outside(machine)
    assert sandbox.hides(Path(path)) is None


def test_what_an_operator_has_closed_is_his_to_open(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    see(machine, monkeypatch, ["closed"])
    assert sandbox.hides(Path("/srv/private/model")) == f"{UNIT} does not see it (InaccessiblePaths=)"


@pytest.mark.parametrize("key", ["[broker] url_file", "[responses] token_file"])
def test_a_secret_that_the_unit_hides_is_said_to_be(machine: Path, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    see(machine, monkeypatch, ["yes"])
    section, name = key.split()
    monkeypatch.setenv("STABLEDIFFUSIOND_CONFIG", str(machine / "settings.toml"))
    (machine / "settings.toml").write_text(f"{section}\n{name} = '/home/nobody-here/secret'\n")
    with pytest.raises(SettingsError, match=rf"secret cannot be read: {UNIT} does not see it \(ProtectHome=\)"):
        load()


@pytest.mark.parametrize(
    ("mounts", "path"),
    [
        ([], "/home/alice/model"),
        (["disk"], "/home/alice/model"),
        (["tmpfs", "bound"], "/home/alice/my models/one.safetensors"),
        (["tmpfs"], "/homes/model"),
        (["yes", "private"], "/srv/model"),
    ],
)
def test_a_file_that_is_simply_not_there_is_not(
    machine: Path, monkeypatch: pytest.MonkeyPatch, mounts: list[str], path: str
) -> None:
    see(machine, monkeypatch, mounts)
    assert sandbox.hides(Path(path)) is None


def see(machine: Path, monkeypatch: pytest.MonkeyPatch, mounts: list[str]) -> None:
    (machine / "mountinfo").write_text(BASE + "".join(MOUNTS[each] for each in mounts))
    monkeypatch.setattr(sandbox, "_MOUNTS", machine / "mountinfo")


def test_the_firewall_is_asked_with_a_packet_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.bind(("127.0.0.1", 0))
        listening.settimeout(10)
        monkeypatch.setattr(sandbox, "_DISCARD_PORT", listening.getsockname()[1])
        assert sandbox._may_send("127.0.0.1")
        assert listening.recv(10) == b""
    assert sandbox._may_send("no address")
