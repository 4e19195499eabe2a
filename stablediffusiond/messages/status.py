"""The status of the service: the answer of one request daemon, and all answers together with the queues."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from stablediffusiond.messages.request import Priority

#: The parts that a queue may have, in the order in which they are shown.
QueueRole = Literal["high", "normal", "low", "results", "crashed", "dead", "unroutable"]

JobState = Literal["waiting", "drawing", "publishing"]


class Ask(BaseModel):
    """The message to the control exchange that every request daemon answers with a ``WorkerStatus``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    status: Literal[True]
    offer: bool = Field(default=False, description="Whether it says, too, what requests may name")


class StatusPart(BaseModel):
    """What all of the following share: a newer daemon may send more than this client knows."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class CallTime(StatusPart):
    """A line of the table that was measured at the start."""

    rows: int = Field(ge=1, description="Rows of a call of the denoiser; an image has two under guidance")
    seconds: float = Field(description="How long one call of so many rows takes, at the model's own size")


class JobStatus(StatusPart):
    """One job in flight."""

    id: str | None = Field(None, description="Absent as long as the request has not been read")
    priority: Priority = Field(description="By the queue that it came from")
    state: JobState
    step: int = Field(0, ge=0, description="Denoising steps done, over all images of the job")
    steps: int | None = Field(None, description="Denoising steps to do; known once the job is being drawn")
    images_drawn: int = Field(0, ge=0)
    images: int | None = Field(None, description="Images asked for; known once the request has been read")


class LoraFacts(StatusPart):
    """A LoRA, as far as its file says."""

    name: str
    family: str | None = Field(None, description="Of the models that it was made for")
    triggers: list[str] = Field(default_factory=list, description="Words that call for what it has learnt")


ModelState = Literal["resident", "loading", "waiting", "host"]


class ModelStatus(StatusPart):
    """A model that is on the device of a request daemon, or in its host's memory, or that jobs wait for there."""

    name: str
    state: ModelState
    nbytes: int | None = Field(None, description="Of its weights, on the device; absent while it is not there")
    host_bytes: int | None = Field(None, description="Of its weights, in host memory; absent while it is not there")
    jobs: int = Field(0, ge=0, description="That are drawn with it")
    waiting: int = Field(0, ge=0, description="Jobs that wait for it in this daemon")
    longest_wait_seconds: float = Field(0, ge=0, description="Of these")


class Offer(StatusPart):
    """What requests to one request daemon may name, and what they get that name nothing."""

    models: list[str] = Field(default_factory=list, description="Those that may be named, the default first")
    tasks: list[str] = Field(description="Types of jobs that its model can be used for")
    width: int = Field(description="Pixels of the model's own size")
    height: int
    steps: int
    guidance_scale: float
    sampler: str = Field(description="The model's own")
    samplers: list[str] = Field(description="Those that may be asked for; not every model takes every one")
    loras: list[LoraFacts] = Field(default_factory=list)
    embeddings: list[str] = Field(default_factory=list, description="Words that stand for trained vectors")
    controlnets: list[str] = Field(default_factory=list)
    ip_adapters: list[str] = Field(default_factory=list)
    vaes: list[str] = Field(default_factory=list, description="In place of the model's own")
    upscalers: list[str] = Field(
        default_factory=list, description="All that may be named: those that need no file, then those in files"
    )


class WorkerStatus(StatusPart):
    """The answer of one request daemon."""

    host: str
    pid: int
    version: str
    uptime_seconds: float = Field(ge=0, description="Since its model was ready")
    model: str
    device: str
    dtype: str
    shortcoming: str | None = Field(None, description="Why it draws on this device and not on a better one")
    table: list[CallTime] = Field(description="What a measurement at the start found")
    rows_at_a_time: int = Field(ge=1, description="Rows that one call may have, at the model's own size")
    images_at_a_time: int = Field(ge=1, description="Images of the model's own size that step together under guidance")
    device_memory_bytes: int | None = Field(None, description="Held on the device; absent where there is no account")
    models: list[ModelStatus] = Field(default_factory=list, description="Of the models, those that are in use here")
    served: list[str] = Field(default_factory=list, description="All models that requests may name here")
    jobs: list[JobStatus] = Field(description="All its jobs in flight, in the order in which they came")
    images_per_second: float = Field(ge=0, description="Pictures published, over the last minute")
    images_total: int = Field(ge=0, description="Pictures published since its start")
    jobs_done: int = Field(ge=0, description="Since its start")
    jobs_failed: int = Field(ge=0, description="Since its start")
    paused: str | None = Field(None, description="Why no step is made, if none is")
    healthy: bool = Field(description="Whether the device has answered lately")
    offer: Offer | None = Field(None, description="Only where it was asked for")


class QueueStatus(StatusPart):
    """One queue, as the broker counts."""

    name: str
    messages: int | None = Field(
        None, description="Ready, without those delivered and not acked. Absent: no such queue, or no right to see it"
    )
    consumers: int | None = Field(
        None, description="Request daemons, which all read the three request queues, or clients"
    )


class ServiceStatus(StatusPart):
    """What ``stablediffusion_client status --json`` prints."""

    queues: dict[QueueRole, QueueStatus]
    model_queues: list[QueueStatus] = Field(
        default_factory=list, description="Those of the models that the daemons draw with in which jobs wait"
    )
    workers: list[WorkerStatus] = Field(description="The request daemons that have answered")
    workers_connected: int | None = Field(
        None, description="Request daemons that are connected to the broker; some of them may not have answered"
    )
    publishes_blocked: bool = Field(
        default=False, description="A memory or disk alarm: the broker takes no publishes, so no daemon could be asked"
    )

    @property
    def no_daemon_runs(self) -> bool:
        return not self.workers and not self.workers_connected
