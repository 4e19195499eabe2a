"""The jobs that were delivered and are not settled, and what happens to them when a connection is lost.

A delivery can only be acked on the channel that it came by. When that is closed the broker delivers the message again,
quite possibly to this daemon, which is still drawing the job. So a job outlives its delivery: it is drawn on without
one, and the redelivery is recognised and attached to it, so that it is not drawn twice. An ack may be lost with its
connection, too: the last ones are remembered, and what is delivered again is acked again.
"""

import asyncio
import hashlib
import time
from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from stablediffusiond.broker.message import SET_ASIDE, Delivery, Message
from stablediffusiond.broker.topology import RequestQueue
from stablediffusiond.engine.batcher import rank
from stablediffusiond.engine.job import Event, Kind
from stablediffusiond.messages.request import Priority
from stablediffusiond.requestd.prefetch import UnfinishedJob

#: Jobs that were answered, and whose redelivery need only be acked: their channel was closed, or their ack may be lost.
_REMEMBERED_ANSWERS: Final = 1000


@dataclass(eq=False)
class InFlightJob:
    """One job from its delivery until it is settled."""

    key: int
    message: Message
    fingerprint: bytes
    delivery: Delivery | None
    received_at: datetime
    received_seconds: float  #: by time.monotonic
    queue: RequestQueue  #: that it came from
    alone: bool = False  #: it was delivered before, and nothing else is drawn beside it
    events: asyncio.Queue[Event] = field(default_factory=asyncio.Queue)
    job_id: str | None = None  #: known once the request has been read
    images: int | None = None  #: asked for; known then, too
    kind: Kind | None = None  #: of its images; known then, too
    rows: int = 0  #: of each image in a call of the denoiser
    #: Images that need a place in the batch, now or later; None until the request has been read.
    unfinished: int | None = None
    task: asyncio.Task[None] | None = None
    model_wait: asyncio.Timeout | None = None  #: it waits for its model
    begun: bool = False  #: the engine draws it
    previewed: bool = False  #: somebody listens for its previews
    drawn: int = 0  #: pictures
    unpublished: int = 0  #: pictures that are drawn and not confirmed by the broker
    published: int = 0  #: pictures that the broker has confirmed

    @property
    def priority(self) -> Priority:
        return self.queue.priority


class InFlightJobs:
    """Every job that was delivered and is not settled."""

    def __init__(self) -> None:
        self._jobs: dict[int, InFlightJob] = {}
        self._answered: OrderedDict[bytes, int] = OrderedDict()
        self._acked: deque[bytes] = deque(maxlen=_REMEMBERED_ANSWERS)
        self._keys = 0
        self._empty = asyncio.Event()
        self._empty.set()

    def __len__(self) -> int:
        return len(self._jobs)

    def __iter__(self) -> Iterator[InFlightJob]:
        return iter(list(self._jobs.values()))

    def get(self, key: int) -> InFlightJob | None:
        return self._jobs.get(key)

    async def empty(self) -> None:
        """Wait until every job is settled."""
        await self._empty.wait()

    @property
    def all_read(self) -> bool:
        """Whether it is known of every job how many images of which size it asks for."""
        return all(job.unfinished is not None for job in self._jobs.values())

    @property
    def lacking_delivery(self) -> set[RequestQueue]:
        """The queues of jobs that are to be delivered again: their channel was closed while they were drawn."""
        return {job.queue for job in self._jobs.values() if job.delivery is None}

    def unfinished(self) -> list[UnfinishedJob]:
        """The jobs that have been read, and that have images to be drawn."""
        now = time.monotonic()
        return [
            UnfinishedJob(
                rank(job.priority, now - job.received_seconds),
                job.priority == "high",
                job.kind,
                job.rows,
                job.unfinished,
                job.begun,
            )
            for job in self._jobs.values()
            if job.kind is not None and job.unfinished
        ]

    def take(self, delivery: Delivery, queue: RequestQueue, *, alone: bool = False) -> InFlightJob:
        """A new job, which came from ``queue``."""
        self._keys += 1
        message = delivery.message
        job = InFlightJob(
            self._keys, message, _fingerprint(delivery), delivery, datetime.now(UTC), time.monotonic(), queue, alone
        )
        self._jobs[job.key] = job
        self._empty.clear()
        return job

    def recognise(self, delivery: Delivery) -> bool:
        """Whether a repeated ``delivery`` is of a job here: being drawn (it is attached) or answered (it is acked)."""
        fingerprint = _fingerprint(delivery)
        for job in self._jobs.values():
            if job.delivery is None and job.fingerprint == fingerprint:
                job.delivery = delivery
                return True
        if fingerprint not in self._answered:
            return False
        self._answered[fingerprint] -= 1
        if not self._answered[fingerprint]:
            del self._answered[fingerprint]
        delivery.ack()
        return True

    def settle(self, job: InFlightJob) -> None:
        """The job has been answered: ack its delivery, or remember that its redelivery is to be acked."""
        self._forget(job)
        if job.delivery is not None:
            job.delivery.ack()
        if not job.message.message_id:
            return  # without an id it cannot be told from another message of the same body, and is drawn again
        if job.delivery is not None:
            self._acked.append(job.fingerprint)
        else:
            self._remember(job.fingerprint)

    def requeue(self, job: InFlightJob) -> None:
        """The job has not been answered: back into the queue."""
        self._forget(job)
        if job.delivery is not None:
            job.delivery.requeue()

    def detach(self) -> None:
        """The connection is lost: no delivery can be acked any more, the last acks are in doubt; the jobs go on."""
        for fingerprint in self._acked:
            self._remember(fingerprint)
        self._acked.clear()
        for job in self._jobs.values():
            job.delivery = None

    def _remember(self, fingerprint: bytes) -> None:
        self._answered[fingerprint] = self._answered.get(fingerprint, 0) + 1
        if len(self._answered) > _REMEMBERED_ANSWERS:
            self._answered.popitem(last=False)

    def _forget(self, job: InFlightJob) -> None:
        del self._jobs[job.key]
        if not self._jobs:
            self._empty.set()


def _fingerprint(delivery: Delivery) -> bytes:
    """What is the same in every delivery of one message, and in no other's.

    A job that was passed on is another message in another queue; one that was set aside or dead-lettered says where it
    came from.
    """
    message = delivery.message
    queue = message.headers.get(SET_ASIDE) or message.headers.get("x-first-death-queue", delivery.queue)
    parts = (message.message_id, message.correlation_id, message.reply_to, message.timestamp, queue)
    return hashlib.sha256(repr(parts).encode() + message.body).digest()
