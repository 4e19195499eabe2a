"""What is kept of a job: what was asked for, each picture, and how it ended. Each is written once, and not changed."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from stablediffusiond.messages.replies import Done, Failed, ImageFacts

#: An id is the name of a folder and a part of addresses.
ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")

Interface = Literal["jobs", "openai", "a1111"]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")  # a newer gateway may have written more


class JobRecord(_Record):
    """What was asked for, by whom. Written before the job is published."""

    id: str
    owner: str = Field(description="The name of the client's token")
    interface: Interface
    created_at: datetime
    fingerprint: str = Field(description="SHA-256 of the body that asked for it, to tell a repeat from another job")
    request: dict[str, Any] = Field(description="Its fields, without the pictures in it")
    count: int = Field(ge=1, description="Pictures that were asked for")
    warnings: list[str] = Field(default_factory=list, description="What was accepted and ignored")
    webhook: str | None = Field(None, description="Where the end of the job is posted")


class StoredImage(_Record):
    """One picture; its file lies beside this."""

    facts: ImageFacts
    content_type: str
    file: str = Field(description="Its name in the folder of the job")
    bytes: int = Field(ge=0)

    @property
    def index(self) -> int:
        return self.facts.index


class _DoneRecord(Done):
    type: Literal["done"] = "done"


class _FailedRecord(Failed):
    type: Literal["failed"] = "failed"


_END: Final[TypeAdapter[_DoneRecord | _FailedRecord]] = TypeAdapter(
    Annotated[_DoneRecord | _FailedRecord, Field(discriminator="type")]
)


def end_to_json(end: Done | Failed) -> bytes:
    made = (_DoneRecord if isinstance(end, Done) else _FailedRecord).model_validate(end.model_dump())
    return made.model_dump_json().encode()


def end_from_json(written: bytes) -> Done | Failed:
    return _END.validate_json(written)


def now() -> datetime:
    return datetime.now(UTC)
