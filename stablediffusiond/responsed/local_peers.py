"""The other end of a TCP connection on this machine, as its kernel knows it: sock_diag(7).

TCP acknowledges what a program may never read. A browser opens connections before it needs them, and a reply that is
sent to one of those is acknowledged and lost. A client that has closed its socket looks like one that has closed only
its writing side. Where both ends are on one machine, its kernel knows more than TCP tells.
"""

import contextlib
import logging
import socket
import struct
from typing import Final

log = logging.getLogger(__name__)

#: From linux/netlink.h, linux/sock_diag.h and linux/inet_diag.h.
_NETLINK_SOCK_DIAG: Final = 4
_SOCK_DIAG_BY_FAMILY: Final = 20
_REQUEST: Final = 1
_MESSAGE_HEAD: Final = struct.Struct("=IHHII")  #: nlmsghdr: length, type, flags, sequence, port
_QUESTION: Final = struct.Struct("=BBxxI")  #: inet_diag_req_v2: family, protocol, states; an inet_diag_sockid follows
_PORTS: Final = struct.Struct("!HH")
_ANY_INTERFACE_ANY_COOKIE: Final = struct.pack("=III", 0, 0xFFFFFFFF, 0xFFFFFFFF)
_ALL_STATES: Final = 0xFFFFFFFF
_ADDRESS_BYTES: Final = 16
#: inet_diag_msg: the receive queue and the inode, behind eight bytes and an inet_diag_sockid.
_ANSWER: Final = struct.Struct("=8x48xI8xI")
_ANSWER_BYTES: Final = 4096


class LocalPeers:
    """Asks the kernel, at some ten microseconds a question. Where it cannot be asked, nothing is known of any peer."""

    def __init__(self) -> None:
        self._netlink: socket.socket | None = None
        with contextlib.suppress(AttributeError, OSError):  # another system, or a service that may not
            self._netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _NETLINK_SOCK_DIAG)
            self._netlink.setblocking(False)  # noqa: FBT003
        if self._netlink is None:
            log.info("whether clients on TCP have read what they were sent cannot be known here (sock_diag)")

    def unread_bytes(self, connection: socket.socket) -> int:
        """What the other end of ``connection`` has received and not read; 0 if it is not here."""
        answer = self._ask(connection)
        return answer[0] if answer else 0

    def has_closed(self, connection: socket.socket) -> bool:
        """Whether no program has the other end of ``connection`` open any more; False if it is not here."""
        answer = self._ask(connection)
        return answer is not None and answer[1] == 0

    def _ask(self, connection: socket.socket) -> tuple[int, int] | None:
        """The receive queue and the inode of the other end."""
        if self._netlink is None or connection.family == socket.AF_UNIX:
            return None
        try:
            self._netlink.send(_question(connection))
            answer = self._netlink.recv(_ANSWER_BYTES)
        except OSError as error:
            log.debug("sock_diag: %s", error)
            return None
        _, kind, *_ = _MESSAGE_HEAD.unpack_from(answer)
        if kind != _SOCK_DIAG_BY_FAMILY:  # an error: there is no such socket on this machine
            return None
        unread, inode = _ANSWER.unpack_from(answer, _MESSAGE_HEAD.size)
        return unread, inode

    def close(self) -> None:
        if self._netlink is not None:
            self._netlink.close()


def _question(connection: socket.socket) -> bytes:
    """The same connection, seen from the other end."""
    family = connection.family
    (peer, peer_port, *_), (own, own_port, *_) = connection.getpeername(), connection.getsockname()
    question = (
        _QUESTION.pack(family, socket.IPPROTO_TCP, _ALL_STATES)
        + _PORTS.pack(peer_port, own_port)
        + _address(family, peer)
        + _address(family, own)
        + _ANY_INTERFACE_ANY_COOKIE
    )
    return _MESSAGE_HEAD.pack(_MESSAGE_HEAD.size + len(question), _SOCK_DIAG_BY_FAMILY, _REQUEST, 0, 0) + question


def _address(family: int, address: str) -> bytes:
    return socket.inet_pton(family, address.partition("%")[0]).ljust(_ADDRESS_BYTES, b"\0")
