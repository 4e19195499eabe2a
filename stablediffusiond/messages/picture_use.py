"""What a request uses together with a picture: a ControlNet, an IP-Adapter."""

import base64
from collections.abc import Mapping
from typing import Annotated, Final, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from stablediffusiond.messages import picture_text
from stablediffusiond.messages.spellings import read_as
from stablediffusiond.messages.values import Body, asks_for_nothing

#: Fields whose entries have pictures of their own, and what each of those is.
GUIDES: Final = {"control": "a ControlNet", "ip_adapter": "an IP-Adapter"}


class PictureUse(BaseModel):
    """What both have."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    image: Annotated[bytes, BeforeValidator(picture_text.read)] | None = Field(
        None, description="The picture that guides it; default: the job's own image", repr=False
    )
    scale: float = Field(1.0, ge=0, le=10, allow_inf_nan=False, description="How much it counts")

    def to_fields(self) -> Body:
        """As a request on its way has it."""
        image = {} if self.image is None else {"image": base64.b64encode(self.image).decode()}
        return {**self.model_dump(exclude_defaults=True, exclude={"image"}), **image}


Use = TypeVar("Use", bound=PictureUse)


def checked(kind: type[Use], use: Body, field: str) -> Use:
    """``use`` as one of ``kind``.

    Raises:
        InvalidRequest: it cannot be one; ``field`` is where it stands.
    """
    image = use.get("image")
    given = {name: each for name, each in use.items() if name != "image"}
    if isinstance(image, Mapping):  # as old clients send it, with a mask beside it
        given["image"] = image.get("image")
    elif not asks_for_nothing(image):
        given["image"] = image
    return read_as(kind, given, field)
