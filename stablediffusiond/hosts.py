"""The names by which this machine may be asked over HTTP.

A web page can have a browser ask under a name of the page's own that resolves to this machine for a moment (DNS
rebinding), and the browser then takes the answer for the page's own. So a name in ``Host`` has to be one of ours.
"""

import ipaddress
import re
import socket
from collections.abc import Iterable
from typing import Final

_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:]+)(?::\d*)?")


class KnownHosts:
    """localhost, this machine's own names, all IP addresses, and ``others``."""

    def __init__(self, others: Iterable[str]) -> None:
        self._names = {"localhost", *_own_names(), *(_normal(name) for name in others)}

    def has(self, name: str) -> bool:
        return _is_address(name) or _normal(name) in self._names


def name_in(header: str) -> str | None:
    """The name in a header ``Host``, without its port; None if it is no such header."""
    found = _HOST.fullmatch(header.strip())
    return found[1] if found else None


def _own_names() -> set[str]:
    name = _normal(socket.gethostname())
    return {name, name.partition(".")[0]}


def _normal(name: str) -> str:
    return name.strip("[]").removesuffix(".").lower()


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True
