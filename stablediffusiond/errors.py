"""Every exception of this project, on one root.

Two families matter to the world outside: errors that end a program carry the ``exit_code`` it ends with,
errors that end a job carry the reply ``code`` that its client reads.
"""

from typing import ClassVar, Literal

#: The codes of a ``failed`` reply (docs/protocol.md).
ReplyCode = Literal["invalid_request", "expired", "cancelled", "too_large", "out_of_memory", "model_error", "crashed"]


class StableDiffusiondError(Exception):
    """The root."""

    #: What a program that ends with this error exits with; see docs/protocol.md, "Exit codes".
    exit_code: ClassVar[int] = 70  # EX_SOFTWARE of sysexits.h


# Programs


class SettingsError(StableDiffusiondError):
    """Raised when settings cannot work however often one tries: systemd does not restart on this exit code."""

    exit_code = 78  # EX_CONFIG


class ModelUnavailable(SettingsError):
    """Raised when the model that the settings name cannot be loaded, however often one tries."""


class ModelAway(StableDiffusiondError):
    """Raised when a model cannot be fetched now, and may be later: systemd tries again."""


class LoadHung(StableDiffusiondError):
    """Raised when a load does nothing any more: its device, hub or file system hangs."""


class DeviceAway(StableDiffusiondError):
    """Raised when the device is not there, or has no room, and may have later: systemd tries again."""


class DeviceBroken(StableDiffusiondError):
    """Raised when the device has failed for good: no job is the cause, and this process can draw none any more."""


class AddressInUse(SettingsError):
    """Raised when a daemon cannot listen on the address of its settings."""


# Broker


class BrokerError(StableDiffusiondError):
    """The root of everything that RabbitMQ, or the way to it, can do to us."""

    exit_code = 3


class BrokerAway(BrokerError):
    """Raised when no connection can be made: refused, timed out, not a broker. Trying again may help."""


class BrokerForbidden(BrokerAway):
    """Raised when what we send to the broker, or to who knows its address, may not leave this service."""


class BrokerRefused(BrokerError):
    """Raised when the broker answers and refuses: password, virtual host, permission, TLS certificate."""


class BrokerLost(BrokerError):
    """Raised when a connection, channel or consumer that worked is gone."""


class QueueMissing(BrokerError):
    """Raised when a queue or exchange is used that does not exist."""


class QueueMismatch(BrokerError):
    """Raised when a queue exists with other arguments than those it is declared with."""


class Unroutable(BrokerError):
    """Raised when a mandatory message fits no queue; the broker has given it back."""

    def __init__(self, routing_key: str) -> None:
        super().__init__(f"no queue takes {routing_key!r}")
        self.routing_key = routing_key


class MessageTooLarge(BrokerError):
    """Raised when a message has more bytes than the broker takes; trying again does not make it smaller."""

    def __init__(self, size: int, most: int) -> None:
        super().__init__(f"a message of {size} bytes; the broker takes {most} (max_message_size)")
        self.most = most


class BrokerFailed(BrokerLost):
    """Raised when the broker has ended the connection because it could not do what was asked on one of its channels."""


class NotConfirmed(BrokerLost):
    """Raised when the broker neither confirms nor returns a message: its queue has no leader, or all is slow."""


class QueueUnavailable(BrokerError):
    """Raised when a queue has taken nothing for minutes, though the broker is there and it is not full."""

    def __init__(self, name: str) -> None:
        super().__init__(f"the queue {name!r} is there and takes nothing")


class Nacked(BrokerError):
    """Raised when the broker refuses to keep a message: the queue has reached its length limit."""


# Socket


class FramingError(StableDiffusiondError):
    """Raised when the bytes of a socket cannot be told apart any more; the connection has to end."""


class OpError(StableDiffusiondError):
    """Raised for a line that is framed well and has a wrong content; the connection goes on."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class UnknownOp(OpError):
    """Raised for a line that is no operation at all: who begins with one speaks another protocol."""


class OtherProtocol(StableDiffusiondError):
    """Raised for bytes that another protocol begins with; the connection has to end, and nothing more is read."""

    def __init__(self, name: str) -> None:
        super().__init__(f"these bytes are {name}, and this socket speaks lines of JSON")
        self.name = name


class ResponsesAway(StableDiffusiondError):
    """Raised by the client when the response daemon cannot be reached or closes the connection."""

    exit_code = 3


class ClientClosed(BrokerLost, ResponsesAway):
    """Raised when a client is used that was closed, or is closed meanwhile."""


class TimedOut(StableDiffusiondError):
    """Raised by the client when the time that its caller gave has passed. What gives up by itself raises its own."""

    exit_code = 4


class BelongsElsewhere(StableDiffusiondError):
    """Raised when a job or a client is used in a process, or an event loop, that it is not of."""


# Jobs


class UnreadableMessage(StableDiffusiondError):
    """Raised for a message that is no JSON object: poison, which an operator has to see."""


class JobError(StableDiffusiondError):
    """The root of what ends a job with a ``failed`` reply."""

    code: ReplyCode = "model_error"
    exit_code = 1

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class InvalidRequest(JobError):
    """Raised when a request asks for something that cannot be drawn; ``field`` names where."""

    code = "invalid_request"
    exit_code = 2


class UnknownModel(InvalidRequest):
    """Raised when a request names a model that this daemon does not draw with."""

    def __init__(self, message: str, asked: str) -> None:
        super().__init__(message, field="model")
        self.asked = asked


class TooLarge(JobError):
    """Raised when a request or its result is larger than this service's limits."""

    code = "too_large"


class Expired(JobError):
    """Raised when a job's deadline has passed before it was finished."""

    code = "expired"


class Cancelled(JobError):
    """Raised when the job was cancelled."""

    code = "cancelled"


class OutOfMemory(JobError):
    """Raised when the device has not enough memory for this job even alone."""

    code = "out_of_memory"


class ModelError(JobError):
    """Raised when the model's arithmetic fails for this job: an exception in it, or latents that are not numbers."""

    code = "model_error"


class Crashed(JobError):
    """Raised for a job that ended the request daemon as often as its queue allows."""

    code = "crashed"


class JobFailed(JobError):
    """Raised by the client when the daemon answered ``failed``; ``code`` is the reply's."""

    def __init__(self, code: ReplyCode, message: str, *, field: str | None = None) -> None:
        super().__init__(message, field=field)
        self.code = code
