"""What a systemd unit keeps from this process, and how an operator lets it through.

What a sandbox denies looks like something else: a name that no server knows, a host that is silent, a file that is not
there. Who meets such a failure asks here whether the unit is why. The answer is a part of an error message, and names
the command or the drop-in.
"""

import asyncio
import contextlib
import ipaddress
import os
import re
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from stablediffusiond.resolver import resolve

_CGROUPS: Final = Path("/proc/self/cgroup")
_MOUNTS: Final = Path("/proc/self/mountinfo")
_RESOLVER: Final = Path("/etc/resolv.conf")
#: A packet there is discarded by its receiver (RFC 863); the firewall of a unit looks at addresses only.
_DISCARD_PORT: Final = 9
#: An address that no network has (RFC 5737): its route is the default route.
_ELSEWHERE: Final = "192.0.2.1"
#: Who may not ask a name server is told so at once.
_RESOLVE_SECONDS: Final = 2
_HOMES: Final = ("/home", "/root", "/run/user")


def unit() -> str | None:
    """The service of systemd's that this process belongs to."""
    try:
        lines = _CGROUPS.read_text("utf-8").splitlines()
    except OSError:
        return None
    names = (line.rpartition("/")[2] for line in lines)
    return next((name for name in names if name.endswith(".service")), None)


async def closed_to(host: str) -> str | None:
    """An explanation for a ``host`` that could not be reached, if packets to it or to name servers are denied."""
    if (name := unit()) is None:
        return None
    try:
        async with asyncio.timeout(_RESOLVE_SECONDS):
            found = await resolve(host, None)
        denied = _denied(str(entry[4][0]) for entry in found)
    except (OSError, TimeoutError):
        denied = _denied(_name_servers())
    if not denied:
        return None
    return (
        f"{name} may not send to {' or '.join(denied)} (IPAddressDeny= of the unit, or a firewall); as root: "
        f"systemctl set-property {name} IPAddressAllow={' '.join(denied)}"
    )


def closed_from(host: str) -> str | None:
    """An explanation for ``host``, on which we listen, if the unit lets only some addresses reach us."""
    name = unit()
    own = _own_address() if host in {"", "0.0.0.0", "::"} else host  # noqa: S104 (compared, not listened on)
    if name is None or own is None or not _denied([own]):
        return None
    return (
        f"reached only from addresses in IPAddressAllow= of {name}; as root: "
        f"systemctl set-property {name} IPAddressAllow=ADDRESS"
    )


def hides(path: Path) -> str | None:
    """An explanation for a ``path`` that is not there, or not readable, if the unit hides it."""
    real = Path(os.path.realpath(path.expanduser()))
    if (name := unit()) is None or (setting := _hiding(real)) is None:
        return None
    hidden = f"{name} does not see it ({setting}=)"
    if setting == "InaccessiblePaths":
        return hidden
    quoted = f'"{real}"' if re.search(r"\s", str(real)) else str(real)
    lines = f"BindReadOnlyPaths={quoted}"
    if setting == "ProtectHome":
        lines = f"ProtectHome=tmpfs and {lines}"
    return f"{hidden}; let a drop-in say {lines} (systemctl edit {name})"


def _denied(addresses: Iterable[str]) -> list[str]:
    """Those of ``addresses`` to which a packet may not leave us; on loopback there is no firewall."""
    return [each for each in dict.fromkeys(addresses) if not _may_send(each)]


def _may_send(address: str) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as probe:
        # A connection that is denied only times out: what TCP sends is dropped silently.
        probe.connect((address, _DISCARD_PORT))
        try:
            probe.send(b"")
        except PermissionError:
            return False
    return True


def _name_servers() -> list[str]:
    try:
        lines = _RESOLVER.read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return []
    named = (re.match(r"nameserver\s+(\S+)", line) for line in lines)
    addresses = [each[1].partition("%")[0] for each in named if each]
    return [each for each in addresses if not ipaddress.ip_address(each).is_loopback]


def _own_address() -> str | None:
    """An address under which others know us."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((_ELSEWHERE, _DISCARD_PORT))
        return str(probe.getsockname()[0])
    return None


def _hiding(path: Path) -> str | None:
    """The setting of a unit that has something else mounted where ``path`` lies."""
    root, point, kind = _mount_of(path)
    if point in _HOMES and ("/systemd/inaccessible/" in root or kind == "tmpfs"):
        return "ProtectHome"
    if "/systemd/inaccessible/" in root:
        return "InaccessiblePaths"
    return "PrivateTmp" if "/systemd-private-" in root else None


def _mount_of(path: Path) -> tuple[str, str, str]:
    """Of the file system that ``path`` lies on: which folder of it is mounted, where, and its kind (proc(5))."""
    nearest = ("", "", "")
    try:
        lines = _MOUNTS.read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return nearest
    for line in lines:
        fields = line.split()
        point = fields[4].replace("\\040", " ")
        if path.is_relative_to(point) and len(point) >= len(nearest[1]):  # the last one lies above the others
            nearest = (fields[3], point, fields[fields.index("-") + 1])
    return nearest
