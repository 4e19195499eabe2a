"""What the gateway refuses of itself; the errors of jobs and of the broker are answered beside these."""

from typing import ClassVar

from stablediffusiond.errors import StableDiffusiondError


class HttpError(StableDiffusiondError):
    """The root: ``status`` is that of the answer, ``code`` stands in its JSON."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "server_error"


class Unauthorized(HttpError):
    """Raised for a request without a token, or with a wrong one, where one is asked for."""

    status = 401
    code = "unauthorized"


class Forbidden(HttpError):
    """Raised for what this client may not do, and for what came from a page, or by a name, that is not allowed."""

    status = 403
    code = "forbidden"


class NotFound(HttpError):
    """Raised for a job, picture or path that is not there, or is not this client's."""

    status = 404
    code = "not_found"


class Conflict(HttpError):
    """Raised for an id or an ``Idempotency-Key`` that stands for another job already."""

    status = 409
    code = "conflict"


class BodyTooLarge(HttpError):
    """Raised for a body with more bytes than ``[gateway] max_body_bytes``."""

    status = 413
    code = "too_large"


class TooManyJobs(HttpError):
    """Raised for a client that has as many jobs under way as it may have."""

    status = 429
    code = "too_many_jobs"


class Unavailable(HttpError):
    """Raised when a job cannot be taken now: the broker is away, its queue or the store is full."""

    status = 503
    code = "unavailable"


class StoreUnavailable(Unavailable):
    """Raised when the store can neither be written nor read now: a disk is full, a bucket cannot be reached."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the store cannot be used: {reason}; try again later")
        self.reason = reason


class StoreRefused(StoreUnavailable):
    """Raised when a bucket is not there, or not for us."""


class NotDrawnYet(HttpError):
    """Raised when a client that waits for pictures has waited for ``[gateway] max_wait_seconds``; the job goes on."""

    status = 504
    code = "not_drawn_yet"
