"""Binding to a host and port, on those of its addresses that this machine has."""

import asyncio
import errno
import socket
from typing import Final

from stablediffusiond.errors import AddressInUse, SettingsError

#: The errors of the kernel for an address of a protocol that this machine does not have, such as ::1 without IPv6.
_NOT_OURS: Final = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}


async def bind(section: str, host: str, port: int, remedy: str) -> list[socket.socket]:
    """A bound socket for each address of ``host``; with the port 0, all on the port that the first one gets.

    Raises:
        AddressInUse: another process listens there; ``remedy`` says what to do.
        SettingsError: there is no such host, or it is not this machine.
    """
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise SettingsError(f"settings: [{section}] host {host!r}: {error.strerror}") from None
    sockets: list[socket.socket] = []
    for family, address in dict.fromkeys((entry[0], entry[4]) for entry in found):
        where = (address[0], sockets[0].getsockname()[1] if sockets else port, *address[2:])
        try:
            sockets.append(_bound(family, where))
        except OSError as error:
            if error.errno in _NOT_OURS:
                continue
            for bound in sockets:
                bound.close()
            raise AddressInUse(f"cannot listen on {address[0]}:{port}: {error.strerror}; {remedy}") from None
    if not sockets:
        raise AddressInUse(f"cannot listen on {host}:{port}: this machine does not have that address; {remedy}")
    return sockets


def _bound(family: int, address: tuple[object, ...]) -> socket.socket:
    # With its protocol's name: only then does asyncio set TCP_NODELAY on what is accepted, without which the second of
    # two short writes waits up to 40 ms for the peer's acknowledgement of the first.
    made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        made.setblocking(False)  # noqa: FBT003
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(address)
    except OSError:
        made.close()
        raise
    return made
