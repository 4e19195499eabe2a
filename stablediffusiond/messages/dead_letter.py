"""A dead letter, as an operator sees it."""

from pydantic import BaseModel, ConfigDict, Field


class DeadLetterFacts(BaseModel):
    """A line of ``stablediffusion_client dead list --json``: a request, or with ``--queue unroutable`` a reply."""

    model_config = ConfigDict(frozen=True)

    id: str = Field(description="What show, retry and drop know it by; several messages may have the same")
    reason: str | None = Field(None, description="Why it is here")
    kept_at: str | None = Field(None, description="Since when, in ISO 8601; for a reply, when it was published")
    was_for: str | None = Field(None, description="The queue that it came from, or was going to: where retry puts it")
    type: str | None = Field(None, description="The message's property; absent on requests")
    content_type: str | None = None
    reply_to: str | None = None
    body_bytes: int = Field(ge=0)
