"""The replies to one job: any number of ``Progress`` and ``Image``, then exactly one ``Done`` or ``Failed``.

``Image`` is a PNG with its facts beside it: on the queue the facts are AMQP headers, on the socket they are the line
before the bytes. The other replies are JSON objects in both places.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, WithJsonSchema

from stablediffusiond.errors import JobError, ReplyCode
from stablediffusiond.messages.request import JobType
from stablediffusiond.messages.seeds import LARGEST_SAFE_NUMBER

ReplyType = Literal["image", "done", "failed", "progress", "preview", "status"]


def _exact(number: int) -> int | str:
    """As text where it is large: JavaScript, and AMQP in many languages, would round it or could not hold it."""
    return number if number <= LARGEST_SAFE_NUMBER else str(number)


class Reply(BaseModel):
    """What every reply has."""

    # A newer daemon may send more than this client knows: unknown fields are dropped, not refused.
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    id: str = Field(description="Job id")


class ImageFacts(Reply):
    """All that is needed to draw one picture again."""

    index: int = Field(ge=0, description="Which image of the job, from 0")
    count: int = Field(ge=1, description="Images in the job")
    type: JobType = Field(description="What kind of job it was")
    prompt: str
    negative_prompt: str
    seed: Annotated[int, PlainSerializer(_exact), WithJsonSchema({"type": ["integer", "string"]})] = Field(
        description="This image's own seed; as text from 2^53 on"
    )
    width: int = Field(description="Pixels")
    height: int = Field(description="Pixels")
    steps: int = Field(description="Denoising steps, of the first pass if there were two; 0 for an upscale")
    guidance_scale: float = Field(description="0 for an upscale")
    sampler: str = Field(description="The one that was used, also where the model chose it; empty for an upscale")
    strength: float | None = Field(None, description="Only img2img and inpaint")
    eta: float
    clip_skip: int | None = Field(None, description="Only where it was asked for")
    subseed: Annotated[int, PlainSerializer(_exact), WithJsonSchema({"type": ["integer", "string"]})] | None = Field(
        None, description="Only of a variation: this image's own subseed"
    )
    subseed_strength: float | None = Field(None, description="Only of a variation")
    tiling: bool | None = Field(None, description="Only of a picture that tiles")
    guidance_rescale: float | None = Field(None, description="Only where it was asked for")
    first_width: int | None = Field(None, description="Only of two passes: of the first")
    first_height: int | None = Field(None, description="Only of two passes: of the first")
    hires_steps: int | None = Field(None, description="Only of two passes: of the second, as asked for")
    hires_strength: float | None = Field(None, description="Only of two passes: of the second")
    upscaler: str | None = Field(None, description="Only of two passes, and of an upscale: what enlarged it")
    loras: str | None = Field(None, description="Those beside the prompt's own, as they would stand in it")
    vae: str | None = Field(None, description="Only where another than the model's own was asked for")
    model: str = Field(description="The name of the model that drew it")


class Done(Reply):
    """The last message of a job that worked."""

    images: int = Field(description="Pictures sent")
    queued_seconds: float = Field(ge=0, description="From publication to delivery; AMQP counts whole seconds")
    engine_seconds: float = Field(ge=0, description="From the first step to the last picture")
    total_seconds: float = Field(ge=0, description="From publication to this message")
    warnings: list[str] = Field(default_factory=list, description="What was accepted and ignored")


class Problem(BaseModel):
    """Why a job failed."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    code: ReplyCode
    message: str = Field(description="In words, with what to do")
    field: str | None = Field(None, description="invalid_request: the field at fault, as the client spelt it")


class Failed(Reply):
    """The last message of a job that did not work."""

    error: Problem

    @classmethod
    def of(cls, job_id: str, error: JobError) -> "Failed":
        return cls(id=job_id, error=Problem(code=error.code, message=str(error), field=error.field))


class Progress(Reply):
    """How far a job is; sent now and then, and lost if nobody listens."""

    step: int = Field(ge=0, description="Denoising steps done, over all images of the job")
    steps: int = Field(ge=1, description="Denoising steps to do")


class PreviewFacts(Reply):
    """What an image looks like so far, beside a small JPEG; sent to who asked for it, and lost if nobody listens."""

    index: int = Field(ge=0, description="Which image of the job, from 0")
    step: int = Field(ge=1, description="Denoising steps done for this image")
    steps: int = Field(ge=1, description="Denoising steps to do for this image")


class Cancel(BaseModel):
    """The message to the control exchange, and the ``cancel`` line of the socket."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cancel: Annotated[str, Field(min_length=1, max_length=200)]
