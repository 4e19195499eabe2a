"""The settings: one class for each section, with the unit in each name.

``settings.example.toml`` shows every key with its default; a test compares it with these classes.
"""

import re
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, SecretStr
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from stablediffusiond.settings.model import CompileMode, FolderSettings, ModelSettings
from stablediffusiond.settings.section import Section

ENV_PREFIX: Final = "STABLEDIFFUSIOND_"


class BrokerSettings(Section):
    """The way to RabbitMQ."""

    url: SecretStr = SecretStr("amqp://guest:guest@localhost:5672/%2F")
    """amqp:// or amqps://user:password@host:port/vhost; / and %2F are the virtual host /; more nodes behind commas."""
    url_file: Path | None = None
    """A file that holds the URL, for those who may read it; used where url is left at its default."""
    operator_url_file: Path = Path("/etc/stablediffusiond/broker-url")
    """The daemons' URL: `stablediffusion_client dead` takes it in place of url_file, for those who may read it."""
    heartbeat_seconds: Annotated[int, Field(ge=5, le=600)] = 15
    """A silent broker is noticed within twice this, or within twenty seconds where that is longer."""
    connect_timeout_seconds: PositiveFloat = 10
    """For one try to connect, handshake included."""
    blocked_timeout_seconds: PositiveFloat = 60
    """How long a broker may block publishers (memory or disk alarm) before the connection is made anew."""
    reconnect_min_seconds: PositiveFloat = 0.2
    """The first wait after a lost connection; it doubles, with jitter, up to the next."""
    reconnect_max_seconds: PositiveFloat = 15
    """The longest wait between two tries. There is no last try."""
    ca_file: Path | None = None
    """amqps: the authority that signed the broker's certificate; default: the system's."""
    certificate_file: Path | None = None
    """amqps: our own certificate, where the broker asks for one; without a user in the URL, it is the login."""
    key_file: Path | None = None
    """amqps: the key of that certificate; default: it lies in the same file."""

    @property
    def urls(self) -> list[str]:
        """The nodes, to be tried in this order: in a file they may stand one on a line; Celery writes ; for a comma."""
        return re.split(r"[\s,;]+(?=[A-Za-z]+://)", self.url.get_secret_value().strip(" \t\r\n,;"))


class QueueSettings(Section):
    """Names of queues; what else they are called begins with these."""

    requests: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,200}$")] = "stablediffusiond"
    """Requests; .high, .low, .crashed, .dead, .unroutable and the exchanges .control and .events derive from it."""
    results: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,200}$")] = "results"
    """Replies to requests without reply_to; clients may listen to queues named results.<anything>."""


class ResponseSettings(Section):
    """The socket of the response daemon."""

    host: str = "localhost"
    """Everyone who reaches it can read results: an address that is not loopback needs a token."""
    port: Annotated[int, Field(ge=0, le=65535)] = 50007
    """0: any free one, named in the log."""
    socket: Path | None = None
    """A Unix socket beside it, for the group stablediffusion; clients that have this setting use it in place of TCP."""
    token: SecretStr | None = None
    """What a client on TCP has to send first; 16 characters or more, such as `openssl rand -hex 16` prints."""
    token_file: Path | None = None
    """A file that holds the token, for those who may read it; used where token is not given."""
    hello_seconds: PositiveFloat = 0.25
    """A client that sends nothing for so long is a plain listener."""
    handshake_seconds: PositiveFloat = 10
    """A client that has sent something must have sent `listen`, or left, by then."""
    stall_seconds: PositiveFloat = 60
    """A reader that takes nothing, or acks nothing, for so long is cut off and its replies go back to the queue."""
    max_connections: PositiveInt = 500
    """Clients at once."""
    max_line_bytes: Annotated[int, Field(ge=256)] = 65_536
    """The longest line that a client may send."""
    default_prefetch: PositiveInt = 4
    """Replies on the way to one client, unless it asks for another number; this times a picture is its memory."""
    max_prefetch: PositiveInt = 64
    """The largest number it may ask for."""


class GatewaySettings(Section):
    """stablediffusion_gateway: HTTP for those who do not speak AMQP (docs/gateway.md)."""

    host: str = "127.0.0.1"
    """Everyone who reaches it can draw: an address that is not loopback needs a token."""
    port: Annotated[int, Field(ge=0, le=65535)] = 50008
    """0: any free one, named in the log."""
    token: SecretStr | None = None
    """What clients have to send; 16 characters or more. Who has it may do everything."""
    token_file: Path | None = None
    """A file that holds the token, or a line for each client: its role (draw or operate), its name, and its token."""
    allowed_hosts: tuple[str, ...] = ()
    """Names by which clients may ask, beside localhost, this machine's own name and all IP addresses."""
    allowed_origins: tuple[str, ...] = ()
    """Web pages elsewhere that may use it, as "https://pictures.example"."""
    public_url: Annotated[str, Field(pattern=r"^https?://[^/?#]+$")] | None = None
    """What the addresses of pictures begin with; unset: as each client has asked."""
    store: Annotated[str, Field(pattern=r"^([^s]|s[^3]|s3[^:]|s3://[a-z0-9][a-z0-9.-]+(/|$))")] = (
        "/var/lib/stablediffusiond/gateway"
    )
    """Where pictures and what was asked for are kept: a folder, or "s3://BUCKET/PREFIX"; of one gateway alone."""
    keep_days: PositiveFloat = 7
    """How long jobs and their pictures are kept."""
    keep_bytes: PositiveInt = 10_737_418_240
    """With more than that in the store, the oldest jobs that have ended are deleted."""
    url_seconds: PositiveInt = 86_400
    """How long the address of a picture opens it without a token."""
    webhook_hosts: tuple[str, ...] = ()
    """Hosts to which `webhook` in a body may have the end of its job posted; none: nowhere."""
    webhook_secret: SecretStr | None = None
    """What posts are signed with; who receives them has it, too. Without it nothing is posted."""
    max_body_bytes: PositiveInt = 33_554_432
    """The body of one HTTP request, pictures included."""
    max_connections: PositiveInt = 500
    """Clients at once."""
    max_jobs: PositiveInt = 1000
    """Jobs under way of one client, told apart by their tokens."""
    max_wait_seconds: PositiveFloat = 600
    """How long a client of OpenAI's or A1111's API is left waiting for its pictures."""


class ResidencySettings(Section):
    """Which of several models are on the device."""

    device_bytes: PositiveInt | Literal["auto"] = "auto"
    """Memory for the weights of models; auto: 70 % of a GPU's, half of this machine's where it draws on the CPU."""
    host_bytes: NonNegativeInt | Literal["auto"] = "auto"
    """Host memory for models that had to make room on a GPU; auto: half of what is free at the start, none on a CPU."""
    max_wait_seconds: PositiveFloat = 30
    """A job that has waited so long for its model comes first; after half of it, models in no use make room."""


class EngineSettings(Section):
    """How many images step together, and how the daemon ends."""

    max_images: PositiveInt | Literal["auto"] = "auto"
    """Images in one call of the network, each two rows under guidance; auto: what is measured to be fastest."""
    drain_seconds: PositiveFloat = 60
    """On SIGTERM: how long running jobs may go on before they are given back to the queue."""
    progress_interval_seconds: PositiveFloat = 0.5
    """At most one progress message a job in this time."""
    encoder_threads: PositiveInt = 2
    """Threads that make PNGs beside the device."""
    high_alone: bool = False
    """Whether images of low and normal priority wait while one of high priority steps."""
    compile: CompileMode = "off"
    """torch.compile: off; regions, the blocks that repeat; default, the whole network; max, with CUDA graphs too."""


class LimitSettings(Section):
    """The most that one request may ask for."""

    max_steps: PositiveInt = 150
    """Denoising steps."""
    max_images: PositiveInt = 16
    """Images in one job."""
    max_loras: PositiveInt = 8
    """LoRAs in one request."""
    max_controls: PositiveInt = 4
    """ControlNets in one request."""
    max_ip_adapters: PositiveInt = 4
    """IP-Adapters in one request."""
    max_pixels: PositiveInt = 1_048_576
    """Width times height of one image."""
    max_upscaled_pixels: PositiveInt = 16_777_216
    """Width times height of an image that is only enlarged."""
    max_request_bytes: PositiveInt = 16_777_216
    """The body of a request, init image included."""
    max_reply_bytes: PositiveInt = 12_582_912
    """One reply; brokers from 4.0 refuse 16 MiB."""


class LogSettings(Section):
    """What the daemons write to standard error, that is, to the journal."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """debug, info, warning or error."""
    format: Literal["auto", "text", "json"] = "auto"
    """auto: entries with fields where the journal reads, else lines for people; text: those; json: an object a line."""


class MetricsSettings(Section):
    """Figures for Prometheus, at http://host:port/metrics."""

    host: str = "127.0.0.1"
    """Everyone who reaches it can read them."""
    port: Annotated[int, Field(ge=0, le=65535)] = 0
    """stablediffusiond's; 0: none. Of several on one host each needs its own (docs/operations.md)."""
    responses_port: Annotated[int, Field(ge=0, le=65535)] = 0
    """stablediffusion_responsed's; 0: none."""
    allowed_hosts: tuple[str, ...] = ()
    """Names by which Prometheus may ask, beside `host`, localhost, this machine's own name and all IP addresses."""


#: What requests call a model that has a section of its own.
ModelName = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,100}$")]


class Settings(BaseSettings):
    """All of it."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        nested_model_default_partial_update=True,
    )

    broker: BrokerSettings = BrokerSettings()
    queues: QueueSettings = QueueSettings()
    responses: ResponseSettings = ResponseSettings()
    gateway: GatewaySettings = GatewaySettings()
    model: ModelSettings = ModelSettings()
    models: dict[ModelName, ModelSettings] = {}
    residency: ResidencySettings = ResidencySettings()
    folders: FolderSettings = FolderSettings()
    engine: EngineSettings = EngineSettings()
    limits: LimitSettings = LimitSettings()
    log: LogSettings = LogSettings()
    metrics: MetricsSettings = MetricsSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 (the signature is pydantic-settings')
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment before the file's values, which ``load`` hands in as arguments."""
        return env_settings, init_settings
