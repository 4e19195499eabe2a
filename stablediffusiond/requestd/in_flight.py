"""The jobs in this daemon's hands, and what happens to them when a connection breaks.

A delivery can only be settled on the connection that brought it. When that dies the broker gives the message out
again, quite possibly to us, while we are still drawing it. So a job outlives its delivery: it is drawn on without one,
and the redelivery finds it here and is attached to it, instead of being drawn twice. An ack may be lost with its
connection, too: what was acked there of late is remembered, and acked once more if it comes again.
"""

import asyncio
import hashlib
from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from stablediffusiond.broker.message import Delivery, Message
from stablediffusiond.engine.job import Event
from stablediffusiond.messages.request import Priority

#: Jobs that were answered, and whose redelivery need only be acked: their delivery was void, or their ack may be lost.
_REMEMBERED_ANSWERS: Final = 1000


@dataclass(eq=False)
class InFlightJob:
    """One job from its delivery until it is settled."""

    key: int
    message: Message
    fingerprint: bytes
    delivery: Delivery | None
    received_at: datetime
    priority: Priority
    events: asyncio.Queue[Event] = field(default_factory=asyncio.Queue)
    job_id: str | None = None  #: known once the request has been read
    images: int | None = None  #: asked for; known then, too
    task: asyncio.Task[None] | None = None
    begun: bool = False  #: the engine draws it
    previewed: bool = False  #: somebody listens who wants to see it come
    drawn: int = 0  #: pictures
    unpublished: int = 0  #: pictures drawn and not yet with the broker


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
        """Wait until no job is job."""
        await self._empty.wait()

    def take(self, delivery: Delivery, priority: Priority = "normal") -> InFlightJob:
        """A new job, with the priority of the queue that it came from."""
        self._keys += 1
        fingerprint = _fingerprint(delivery.message)
        job = InFlightJob(self._keys, delivery.message, fingerprint, delivery, datetime.now(UTC), priority)
        self._jobs[job.key] = job
        self._empty.clear()
        return job

    def recognise(self, delivery: Delivery) -> bool:
        """Whether a repeated ``delivery`` is a job of ours: being drawn (it is attached) or answered (it is acked)."""
        fingerprint = _fingerprint(delivery.message)
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
            return  # an anonymous message cannot be told from its twin, and is drawn again
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
        """The connection is gone: all deliveries are void, the last acks in doubt; the jobs go on."""
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


def _fingerprint(message: Message) -> bytes:
    """What is the same in every delivery of one message, and in no other's."""
    parts = (message.message_id, message.correlation_id, message.reply_to, message.timestamp)
    return hashlib.sha256(repr(parts).encode() + message.body).digest()
