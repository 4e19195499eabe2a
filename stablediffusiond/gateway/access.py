"""Who may do what: clients are told apart by their tokens, and each has a role."""

import base64
import binascii
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, get_args

from stablediffusiond.errors import SettingsError
from stablediffusiond.gateway.errors import Forbidden, Unauthorized
from stablediffusiond.settings import GatewaySettings

Role = Literal["draw", "operate"]

_SHORTEST_TOKEN: Final = 16


@dataclass(frozen=True)
class Client:
    """Somebody who sends requests. ``draw``: jobs of its own; ``operate``: those of all others, too."""

    name: str
    role: Role

    @property
    def sees(self) -> str | None:
        """Whose jobs it may see and end; None: those of all."""
        return None if self.role == "operate" else self.name

    def may_see(self, owner: str) -> bool:
        return self.sees in {None, owner}

    def require_operate(self) -> None:
        """Raise Forbidden, unless it may."""
        if self.role != "operate":
            raise Forbidden("this needs a token with the role operate")


#: Everybody, where no token is asked for: on loopback, those who have an account on this machine.
LOCAL: Final = Client("local", "operate")


class Access:
    """The tokens of the settings."""

    def __init__(self, settings: GatewaySettings) -> None:
        """Raises SettingsError."""
        self._clients = _clients(settings)

    @property
    def asks_for_token(self) -> bool:
        return bool(self._clients)

    def client(self, authorization: str | None) -> Client:
        """Who sends the header ``authorization``: a bearer token, or one as the password of a user.

        Raises:
            Unauthorized: nobody that is known.
        """
        if not self._clients:
            return LOCAL
        if authorization is None:
            raise Unauthorized("send a token: Authorization: Bearer …, or as a password")
        client = self._clients.get(_digest(_token(authorization)))
        if client is None:
            raise Unauthorized("this token is not known")
        return client


def _clients(settings: GatewaySettings) -> Mapping[bytes, Client]:
    """By the hash of the token: how long a look-up takes says nothing of the token itself."""
    lines: list[str] = []
    if settings.token is not None:
        lines.append(settings.token.get_secret_value())
    if settings.token_file is not None:
        try:
            lines += settings.token_file.read_text("utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"settings: [gateway] token_file: {settings.token_file}: {error}") from None
    found: dict[bytes, Client] = {}
    for number, line in enumerate(lines):
        if words := line.partition("#")[0].split():
            client, token = _read(words, number)
            found[_digest(token)] = client
    return found


def _read(words: list[str], number: int) -> tuple[Client, str]:
    """A line of the file; errors don't repeat what is in it."""
    if len(words) not in {1, 3}:
        raise SettingsError("settings: [gateway] token_file: a line is a token, or a role, a name and a token")
    role, name, token = ("operate", "operator", words[0]) if len(words) == 1 else words
    if role not in get_args(Role):
        raise SettingsError(f"settings: [gateway] token_file: line {number}: the role is draw or operate")
    if len(token) < _SHORTEST_TOKEN:
        raise SettingsError(f"settings: [gateway] token: must have {_SHORTEST_TOKEN} characters or more")
    return Client(name, "draw" if role == "draw" else "operate"), token


def _token(authorization: str) -> str:
    scheme, _, value = authorization.strip().partition(" ")
    if scheme.lower() != "basic":
        return value.strip()
    try:
        return base64.b64decode(value, validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return ""


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
