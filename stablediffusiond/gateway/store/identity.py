"""Who this gateway is: the queue that its replies go to, and the secret that signs addresses of pictures.

Both are made once and kept in the store, so that a gateway that is started again reads on where the last one stopped.
"""

import fcntl
import os
import secrets
import uuid
from pathlib import Path
from typing import Final, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from stablediffusiond import sandbox
from stablediffusiond.errors import SettingsError
from stablediffusiond.gateway.store import disk

_FILE: Final = "identity.json"
_LOCK: Final = "lock"


class Identity(BaseModel):
    """Who knows ``queue`` can read the replies, who knows ``secret`` can open every picture."""

    model_config = ConfigDict(frozen=True)

    queue: str
    secret: str

    @classmethod
    def of(cls, folder: Path, results: str) -> Self:
        """That of the store in ``folder``, made where there is none.

        Raises:
            SettingsError: the folder cannot be used.
        """
        file = folder / _FILE
        try:
            if file.exists():
                return cls.model_validate_json(file.read_bytes())
            made = cls(queue=f"{results}.gateway-{uuid.uuid4()}", secret=secrets.token_hex(32))
            disk.place(folder, [(_FILE, made.model_dump_json().encode())])
            file.chmod(0o600)
            disk.sync(folder, [_FILE])
        except (OSError, ValidationError) as error:
            raise SettingsError(f"settings: [gateway] store: {file}: {error}") from None
        return made


def take(folder: Path) -> int:
    """Make ``folder`` and take it for this process alone; returns what holds it as long as it is open.

    Raises:
        SettingsError: it cannot be made or written, or another gateway has it.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        held = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        why = sandbox.hides(folder) or error.strerror
        raise SettingsError(f"settings: [gateway] store: {folder}: {why}; name a folder that can be written") from None
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(held)
        raise SettingsError(f"settings: [gateway] store: another gateway uses {folder}; each needs its own") from None
    return held
