"""What a client does, in one event loop of one process: ``Client`` and ``AsyncClient`` are two ways to call it."""

import asyncio
import logging
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from stablediffusiond.broker.message import Message
from stablediffusiond.broker.topology import Topology
from stablediffusiond.client.deadline import Deadline
from stablediffusiond.client.events import Event, Image
from stablediffusiond.client.image_argument import with_images_read
from stablediffusiond.client.job_replies import JobReplies
from stablediffusiond.client.like import request as request_like
from stablediffusiond.client.listener import Listener
from stablediffusiond.client.outgoing import cancellation, to_message
from stablediffusiond.client.reply_buffer import ReplyBuffer
from stablediffusiond.client.submitter import Submitter
from stablediffusiond.errors import (
    BelongsElsewhere,
    InvalidRequest,
    JobFailed,
    MessageTooLarge,
    Nacked,
    QueueMissing,
    StableDiffusiondError,
    Unroutable,
)
from stablediffusiond.frames import Listen
from stablediffusiond.messages.replies import Failed
from stablediffusiond.messages.request import Request
from stablediffusiond.messages.status import ServiceStatus
from stablediffusiond.settings import Settings

log = logging.getLogger(__name__)

#: Replies on the way to us; this times a picture is what a program that does not read keeps in memory.
_PREFETCH: Final = 4
_CLOSE_SECONDS: Final = 1.0


@dataclass(frozen=True)
class Options:
    """What a client was made with."""

    settings: Settings
    progress: bool
    previews: bool
    reconnect_seconds: float


@dataclass(frozen=True)
class Asked:
    """What a program asked for."""

    request: Request
    warnings: list[str]
    #: The id was made here: if the call fails, no program knows it, and the job may be cancelled.
    is_nameless: bool


def asked(request: Request | Mapping[str, object] | None, fields: Mapping[str, object]) -> Asked:
    """A request, a body that others may have written, or the program's own fields, whose images are read.

    Raises:
        InvalidRequest: it cannot be drawn.
    """
    if request is not None and fields:
        raise InvalidRequest("give a request or its fields, not both", field=next(iter(fields)))
    if isinstance(request, Request):
        return Asked(request, [], is_nameless=False)
    body = dict(request) if request is not None else with_images_read(fields)
    like = body.pop("like", None) if request is None else None
    made, warnings = Request.from_fields(body) if like is None else request_like(like, body)
    return Asked(made, warnings, is_nameless=body.get("id") is None)


class Core:
    """Connects when it has to: to the broker with the first job, to the response daemon with the first ``submit``."""

    def __init__(self, options: Options) -> None:
        self._settings = options.settings
        self._topology = Topology(self._settings.queues.requests, self._settings.queues.results)
        #: Where the replies to this client's jobs go. Who knows its name can read them.
        self.queue = f"{self._topology.results}.{uuid.uuid4()}"
        self.replies = ReplyBuffer()
        self._submitter = Submitter(self._settings.broker, options.reconnect_seconds)
        listen = Listen(
            queue=self.queue,
            progress=options.progress,
            previews=options.previews,
            encoding="binary",
            ack="manual",
            prefetch=_PREFETCH,
        )
        self._listener = Listener(
            self._settings.responses,
            listen,
            self.replies,
            reconnect_seconds=options.reconnect_seconds,
            reach_broker=self._submitter.connect,
        )
        self._process_id = os.getpid()
        self._closed = False

    @property
    def descriptors(self) -> set[int]:
        """The sockets in use."""
        return self._submitter.descriptors | self._listener.descriptors

    def is_of_this_process(self) -> bool:
        """Not so in a process that was forked after this was made."""
        return os.getpid() == self._process_id

    def check_process(self, job_id: str) -> None:
        """Raise BelongsElsewhere in another process than that of ``job_id``."""
        if not self.is_of_this_process():
            raise BelongsElsewhere(
                f"job {job_id} was submitted by process {self._process_id}, of which this one is a fork, and its "
                "replies go there; submit a job here to read it here"
            )

    async def connect(self, deadline: Deadline) -> None:
        async with deadline.limit("the response daemon has not listened"):
            await self._listener.start()
        async with deadline.limit("the broker has not let us in"):
            await self._submitter.connect()

    async def submit(self, what: Asked, deadline: Deadline) -> JobReplies:
        message = self._message(what.request, self.queue)
        async with deadline.limit("the response daemon has not listened"):
            await self._listener.start()  # first of all, so that the replies have a queue to go to
        if not self._submitter.has_connected:
            async with deadline.limit("the broker has not let us in"):
                await self._submitter.connect()
        replies = self.replies.open(what.request.id)
        try:
            await self._publish(message, what.request, deadline)
        except (QueueMissing, Nacked, MessageTooLarge):
            self.replies.forget(replies, goes_on=False)
            raise
        except BaseException:  # whether the broker has it is in doubt
            self._give_up(what, replies)
            raise
        return replies

    async def enqueue(self, request: Request, deadline: Deadline) -> None:
        await self._publish(self._message(request, None), request, deadline)

    async def draw(self, what: Asked, deadline: Deadline) -> list[Image]:
        replies = await self.submit(what, deadline)
        try:
            return await self._images(replies, deadline)
        except BaseException:
            self._give_up(what, replies)
            raise

    async def next_event(self, replies: JobReplies, deadline: Deadline) -> Event | None:
        async with deadline.limit(f"job {replies.job_id} has not ended"):
            return await self.replies.take(replies)

    async def cancel(self, job_id: str, deadline: Deadline) -> None:
        async with deadline.limit(f"the broker has not confirmed that it has the cancellation of {job_id}"):
            await self._submitter.publish(cancellation(job_id), "", exchange=self._topology.control, mandatory=False)

    async def status(self, deadline: Deadline, *, offer: bool = False) -> ServiceStatus:
        async with deadline.limit("the broker has not answered how many messages its queues have"):
            return await self._submitter.query_status(self._topology, offer=offer)

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self.replies.close()
        await self._listener.close()
        if self._listener.started and not len(self.replies):
            try:
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await self._submitter.delete_queue(self.queue)
            except (StableDiffusiondError, TimeoutError) as error:
                log.debug("the queue %s is left to expire: %s", self.queue, error)
        await self._submitter.close()

    async def _images(self, replies: JobReplies, deadline: Deadline) -> list[Image]:
        """All pictures of a job, in order. Raises JobFailed."""
        images: dict[int, Image] = {}
        while (event := await self.next_event(replies, deadline)) is not None:
            if isinstance(event, Image):
                images[event.facts.index] = event
            elif isinstance(event, Failed):
                raise JobFailed(event.error.code, event.error.message, field=event.error.field)
        return [images[index] for index in sorted(images)]

    def _give_up(self, what: Asked, replies: JobReplies) -> None:
        """The caller gets an error and no job, so no program can read it. One with an id may be submitted again."""
        if what.is_nameless and not replies.ended:
            self._submitter.publish_and_forget(cancellation(replies.job_id), self._topology.control)
        self.replies.forget(replies)

    def _message(self, request: Request, reply_to: str | None) -> Message:
        return to_message(request, reply_to, self._settings.limits.max_request_bytes)

    async def _publish(self, message: Message, request: Request, deadline: Deadline) -> None:
        queue = self._topology.request_queue(request.priority)
        try:
            async with deadline.limit(f"the broker has not confirmed that it has job {request.id}"):
                await self._submitter.publish_request(message, self._topology, request)
        except Unroutable:
            raise QueueMissing(
                f"the broker has no queue {queue!r}: start stablediffusiond once, which makes it"
            ) from None
