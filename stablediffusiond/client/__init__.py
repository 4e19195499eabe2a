"""The Python library: put jobs into the queue, read what they say, get Pillow images.

    with Client() as client:
        job = client.submit(prompt="a red cat", seed=42, count=2)
        for event in job.events():
            if isinstance(event, Image):
                event.picture().save(f"cat-{event.facts.index}.png")

A ``Client`` may be used from many threads and for many jobs at a time.
"""

import logging
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Self

from stablediffusiond.broker.message import Message
from stablediffusiond.broker.topology import Topology
from stablediffusiond.client.events import Event, Image, Preview
from stablediffusiond.client.listener import Listener
from stablediffusiond.client.reply_buffer import ReplyBuffer
from stablediffusiond.client.submitter import Submitter
from stablediffusiond.errors import InvalidRequest, JobFailed, QueueMissing, StableDiffusiondError, Unroutable
from stablediffusiond.messages.replies import Cancel, Done, Failed, Progress
from stablediffusiond.messages.request import Request
from stablediffusiond.messages.status import ServiceStatus
from stablediffusiond.settings import Settings, load

if TYPE_CHECKING:
    import PIL.Image

__all__ = ["Client", "Done", "Event", "Failed", "Image", "Job", "Preview", "Progress", "ServiceStatus"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Job:
    """A request that the broker has taken charge of."""

    request: Request
    warnings: list[str]  #: what was accepted and ignored
    _replies: ReplyBuffer = field(repr=False)

    @property
    def id(self) -> str:
        return self.request.id

    def events(self, *, timeout_seconds: float | None = None) -> Iterator[Event]:
        """What the job says, as it says it; ends after ``Done`` or ``Failed``. Each event is handed out once.

        Raises:
            TimedOut: the job has not ended ``timeout_seconds`` after the first ``next``. It goes on all the same.
            ResponsesAway: the response daemon has gone, and did not come back in time. To go on, call this again.
        """
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        while (event := self._replies.take(self.id, deadline)) is not None:
            yield event


class Client:
    """Connects when it has to: to the broker with the first job, to the response daemon with the first ``submit``."""

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        progress: bool = False,
        previews: bool = False,
        reconnect_seconds: float = 60,
    ) -> None:
        """Use ``settings``, by default those of the daemons on this machine.

        ``progress`` asks for ``Progress`` events, ``previews`` for ``Preview`` events. A connection that has worked and
        is lost is made again for ``reconnect_seconds``; the first one is tried once.

        Raises:
            SettingsError: there is a settings file, and it cannot be used.
        """
        self._settings = settings or load()
        self._topology = Topology(self._settings.queues.requests, self._settings.queues.results)
        #: Where the replies to this client's jobs go. Whoever knows its name can read them.
        self.queue = f"{self._topology.results}.{uuid.uuid4()}"
        self._replies = ReplyBuffer()
        self._submitter = Submitter(self._settings.broker, reconnect_seconds)
        self._listener = Listener(
            self._settings.responses,
            self.queue,
            self._replies,
            progress=progress,
            previews=previews,
            reconnect_seconds=reconnect_seconds,
            reach_broker=self._submitter.connect,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave. Jobs that have not ended are drawn all the same; their pictures wait in ``queue`` for seven days."""
        self._listener.close()
        if self._listener.started and not len(self._replies):
            try:
                self._submitter.delete_queue(self.queue)
            except StableDiffusiondError as error:
                log.debug("the queue %s is left to expire: %s", self.queue, error)
        self._submitter.close()

    def submit(self, request: Request | None = None, /, **fields: object) -> Job:
        """Put a job into the queue: a ``Request``, or the fields of one in any known spelling (docs/protocol.md).

        Returns when the broker has confirmed that it has the job. A picture (``image``) is bytes or base64.

        Raises:
            InvalidRequest: before anything is sent; ``field`` says where.
            ResponsesAway: no response daemon to listen to.
            BrokerError: the broker cannot be reached, refuses us, or has no such queue.
        """
        job = self._job(request, fields)
        self._listener.start()  # first of all, so that the replies have a queue to go to
        self._replies.open(job.id)
        try:
            self._publish(job.request, self.queue)
        except StableDiffusiondError:
            self._replies.forget(job.id)
            raise
        return job

    def enqueue(self, request: Request | None = None, /, **fields: object) -> str:
        """As ``submit``, for a program that does not wait: the replies go to the queue ``results``. Returns the id."""
        job = self._job(request, fields)
        self._publish(job.request, None)
        return job.id

    def draw(self, request: Request | None = None, /, **fields: object) -> "list[PIL.Image.Image]":
        """Submit a job, wait, and return its pictures in order.

        Raises:
            JobFailed: with the ``code`` of the reply.
            StableDiffusiondError: what ``submit`` and ``Job.events`` raise.
        """
        pictures: dict[int, PIL.Image.Image] = {}
        for event in self.submit(request, **fields).events():
            if isinstance(event, Image):
                pictures[event.facts.index] = event.picture()
            elif isinstance(event, Failed):
                raise JobFailed(event.error.code, event.error.message, field=event.error.field)
        return [pictures[index] for index in sorted(pictures)]

    def cancel(self, job_id: str) -> None:
        """Have the job stopped at its next step, or dropped when its turn comes; its last event is then ``Failed``.

        Does nothing for a job that has ended, or that no daemon knows.

        Raises:
            BrokerError: the broker cannot be reached.
        """
        body = Cancel(cancel=job_id).model_dump_json().encode()
        message = Message(body, content_type="application/json", message_id=str(uuid.uuid4()), persistent=False)
        self._submitter.publish(message, "", exchange=self._topology.control, mandatory=False)

    def status(self) -> ServiceStatus:
        """How the service is: its queues, and what each request daemon says of itself within two seconds.

        Raises:
            BrokerError: the broker cannot be reached.
        """
        return self._submitter.query_status(self._topology)

    def _job(self, request: Request | None, fields: dict[str, object]) -> Job:
        if request is not None and fields:
            raise InvalidRequest("give a Request or its fields, not both", field=next(iter(fields)))
        made, warnings = (request, []) if request is not None else Request.from_fields(fields)
        return Job(made, warnings, self._replies)

    def _publish(self, request: Request, reply_to: str | None) -> None:
        body, most = request.to_json(), self._settings.limits.max_request_bytes
        if len(body) > most:
            raise InvalidRequest(f"the request has {len(body)} bytes; at most {most} are taken", field="image")
        message = Message(
            body,
            content_type="application/json",
            message_id=request.id,
            correlation_id=request.id,
            reply_to=reply_to,
            timestamp=datetime.now(UTC),
        )
        queue = self._topology.request_queue(request.priority)
        try:
            self._submitter.publish(message, queue)
        except Unroutable:
            raise QueueMissing(
                f"the broker has no queue {queue!r}: start stablediffusiond once, which makes it"
            ) from None
