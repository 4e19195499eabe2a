"""Who this gateway is: the queue that its replies go to, and the secret that signs addresses of pictures.

Both are made once and kept in the store, so that a gateway that is started again reads on where the last one stopped.
"""

import secrets
import uuid
from typing import Final, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from stablediffusiond.errors import SettingsError
from stablediffusiond.gateway.store.files import Files

_FILE: Final = "identity.json"


class Identity(BaseModel):
    """Who knows ``queue`` can read the replies, who knows ``secret`` can open every picture."""

    model_config = ConfigDict(frozen=True)

    queue: str
    secret: str

    @classmethod
    async def of(cls, files: Files, results: str) -> Self:
        """That of a store, made where there is none.

        Raises:
            SettingsError: what is there cannot be read.
            StoreUnavailable: not now.
        """
        if (written := await files.read("", _FILE)) is not None:
            try:
                return cls.model_validate_json(written)
            except ValidationError as error:
                raise SettingsError(f"settings: [gateway] store: {_FILE}: {error}") from None
        made = cls(queue=f"{results}.gateway-{uuid.uuid4()}", secret=secrets.token_hex(32))
        await files.place("", [(_FILE, made.model_dump_json().encode())])
        await files.sync("", [_FILE])
        return made
