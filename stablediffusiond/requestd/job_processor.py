"""One job from delivery to ack, told in the order in which it happens.

The order that loses nothing: every reply is published and confirmed, and only then is the request acked. Whatever ends
a job, ends it here with exactly one ``done`` or ``failed``; an error that is none of a job's (a bug) ends the daemon,
and the broker delivers the job again.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Executor
from datetime import UTC, datetime
from typing import TypeVar, TypeVarTuple

from stablediffusiond.broker.message import Delivery
from stablediffusiond.broker.topology import Topology
from stablediffusiond.engine.engine import Engine
from stablediffusiond.engine.job import Begun, Drawn, Event, Failed, Finished, Previewed, Stepped, Task
from stablediffusiond.errors import (
    Cancelled,
    Expired,
    InvalidRequest,
    JobError,
    MessageTooLarge,
    TooLarge,
    UnreadableMessage,
)
from stablediffusiond.logs import of_job
from stablediffusiond.messages.replies import Done
from stablediffusiond.pictures.encoding import encode_png, encode_preview
from stablediffusiond.requestd import reply_messages
from stablediffusiond.requestd.admission import AcceptedRequest, ReplyAddress, address, admit, read
from stablediffusiond.requestd.cancellations import Cancellations
from stablediffusiond.requestd.counters import Counters
from stablediffusiond.requestd.in_flight import InFlightJob, InFlightJobs
from stablediffusiond.requestd.init_images import InitImages
from stablediffusiond.requestd.reply_publisher import ReplyPublisher
from stablediffusiond.settings import LimitSettings

log = logging.getLogger(__name__)

Arguments = TypeVarTuple("Arguments")
Made = TypeVar("Made")


class JobProcessor:
    """Every job that this daemon is answering."""

    def __init__(
        self,
        engine: Engine,
        replies: ReplyPublisher,
        topology: Topology,
        limits: LimitSettings,
        encoders: Executor,
        *,
        model: str,
    ) -> None:
        self.in_flight = InFlightJobs()
        self.counters = Counters()
        self._engine = engine
        self._replies = replies
        self._topology = topology
        self._limits = limits
        self._encoders = encoders
        self._init_images = InitImages(engine.shape_of)
        self._model = model
        #: Called whenever jobs come, go, or have a picture to publish.
        self.on_change: Callable[[], None] = lambda: None
        self._cancellations = Cancellations()
        #: Fails with the first error that is a bug and not a job's fault.
        self.broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def unpublished(self) -> int:
        """Pictures that are drawn and not yet with the broker."""
        return sum(job.unpublished for job in self.in_flight)

    def limit(self, limits: LimitSettings) -> None:
        """Other limits, from the next job on."""
        self._limits = limits

    # Deliveries and events

    def receive(self, delivery: Delivery) -> None:
        """Begin with a job."""
        job = self.in_flight.take(delivery, self._topology.priority_of(delivery.queue))
        job.task = asyncio.create_task(self._process(job), name=f"job {job.key}")
        job.task.add_done_callback(self._on_ended)
        self.on_change()

    def on_event(self, event: Event) -> None:
        """What the engine says of a job; called on the loop's thread."""
        if (job := self.in_flight.get(event.task.key)) is None:
            return  # it was given back meanwhile
        job.begun = True
        if isinstance(event, Drawn):
            job.drawn += 1
            job.unpublished += 1
            self.on_change()
        job.events.put_nowait(event)

    def cancel(self, job_id: str) -> None:
        """End a job at its next step; one that has not come yet, when it comes."""
        self._cancellations.add(job_id)
        for job in self.in_flight:
            if job.job_id == job_id:
                self._engine.cancel(job.key)

    # Requeueing

    def requeue_waiting(self) -> None:
        """Return every job that the engine has not begun."""
        for job in self.in_flight:
            if not job.begun:
                self._requeue(job)

    def requeue_all(self) -> None:
        """Return every job, drawn half or whole."""
        for job in self.in_flight:
            self._requeue(job)

    def _requeue(self, job: InFlightJob) -> None:
        self._engine.cancel(job.key)
        if job.task is not None:
            job.task.cancel()
        self.in_flight.requeue(job)

    # One job

    async def _process(self, job: InFlightJob) -> None:
        where = address(job.message, self._topology, fallback_id=str(uuid.uuid4()))
        try:
            fields = read(job.message, self._limits)
            where = address(job.message, self._topology, fields, where.job_id)
            job.job_id = where.job_id
            accepted = admit(
                job.message, fields, where, self._topology, self._limits,
                model=self._model, priority=job.priority, received_at=job.received_at,
            )  # fmt: skip
            job.images = accepted.request.count
            self.counters.queued_seconds.add(_queued_seconds(job, accepted))
            self._check_wanted(accepted)
            done = await self._draw(job, accepted)
            await self._replies.reply(where, reply_messages.done(where, done))
            self.counters.job_ended("done")
            about = of_job(where.job_id)
            log.info("job %s done: %d pictures in %.2f s", where.job_id, done.images, done.total_seconds, extra=about)
        except UnreadableMessage as error:
            kept_in, about = self._topology.dead, of_job(where.job_id)
            log.warning("job %s: %s; it is kept in %s", where.job_id, error, kept_in, extra=about)
            await self._replies.reply(where, reply_messages.failed(where, InvalidRequest(str(error))))
            came_from = self._topology.request_queue(job.priority)
            await self._replies.dead_letter(job.message, where.job_id, came_from, str(error))
            self.counters.job_ended(InvalidRequest.code)
        except JobError as error:
            self._engine.cancel(job.key)  # it may have more images to draw
            log.info("job %s failed: %s: %s", where.job_id, error.code, error, extra=of_job(where.job_id))
            await self._replies.reply(where, reply_messages.failed(where, error))
            self.counters.job_ended(error.code)
        self.in_flight.settle(job)

    def _check_wanted(self, accepted: AcceptedRequest) -> None:
        """Raise for a job that need not be drawn any more."""
        if self._cancellations.cover(accepted.address.job_id, accepted.published_at):
            raise Cancelled("cancelled before it was begun")
        if accepted.deadline is not None and time.monotonic() > accepted.deadline:
            raise Expired("its deadline had passed when it was delivered")

    async def _draw(self, job: InFlightJob, accepted: AcceptedRequest) -> Done:
        """Have the job drawn and each picture published as soon as it is there."""
        request, init_image = await self._init_images.open(accepted.request, self._limits)
        self._engine.submit(Task(job.key, request, accepted.deadline, init_image))
        images = 0
        while True:
            match await job.events.get():
                case Begun():
                    log.info("job %s begins", accepted.address.job_id, extra=of_job(accepted.address.job_id))
                    await self._start_previews(job, accepted)
                case Stepped(step=step, steps=steps):
                    self._replies.progress(accepted.address, step, steps)
                    await self._start_previews(job, accepted)
                case Previewed(facts=facts, pixels=pixels):
                    jpeg = await self._in_encoder_thread(encode_preview, pixels)
                    requested = accepted.request.preview_every is not None
                    self._replies.preview(accepted.address, facts, jpeg, requested=requested)
                case Drawn() as drawn:
                    await self._send(accepted.address, drawn)
                    self.counters.picture_published()
                    job.unpublished -= 1
                    self.on_change()
                    images += 1
                case Failed(error=error):
                    raise error
                case Finished(engine_seconds=engine_seconds):
                    return _done(job, accepted, images, engine_seconds)

    async def _send(self, where: ReplyAddress, drawn: Drawn) -> None:
        """Encode one picture and publish it.

        Raises:
            TooLarge: brokers do not take a message of that size.
        """
        png = await self._in_encoder_thread(encode_png, drawn.pixels)
        if len(png) > self._limits.max_reply_bytes:
            raise TooLarge(f"the picture has {len(png)} bytes; a reply holds {self._limits.max_reply_bytes}")
        try:
            await self._replies.reply(where, reply_messages.image(where, drawn.facts, png))
        except MessageTooLarge as error:
            raise TooLarge(str(error)) from None

    async def _in_encoder_thread(self, work: Callable[[*Arguments], Made], *arguments: *Arguments) -> Made:
        """Encode a picture in a thread beside the engine's, which does nothing but step."""
        return await asyncio.get_running_loop().run_in_executor(self._encoders, work, *arguments)

    async def _start_previews(self, job: InFlightJob, accepted: AcceptedRequest) -> None:
        """Have the engine show previews as soon as somebody listens for them; until then it makes none."""
        if not job.previewed and accepted.request.preview_every is None:
            job.previewed = await self._replies.wants_previews(accepted.address)
            if job.previewed:
                self._engine.show_previews(job.key)

    def _on_ended(self, task: asyncio.Task[None]) -> None:
        self.on_change()
        if not task.cancelled() and (error := task.exception()) and not self.broken.done():
            self.broken.set_exception(error)


def _done(job: InFlightJob, accepted: AcceptedRequest, images: int, engine_seconds: float) -> Done:
    """Where the time went. AMQP's timestamps are whole seconds, so what follows them may be up to one too long."""
    now = datetime.now(UTC)
    began = accepted.published_at or job.received_at
    return Done(
        id=accepted.address.job_id,
        images=images,
        queued_seconds=round(_queued_seconds(job, accepted), 3),
        engine_seconds=round(engine_seconds, 3),
        total_seconds=round(max(0.0, (now - began).total_seconds()), 3),
        warnings=accepted.warnings,
    )


def _queued_seconds(job: InFlightJob, accepted: AcceptedRequest) -> float:
    """From publication to delivery; 0 for a message that does not say when it was published."""
    return max(0.0, (job.received_at - (accepted.published_at or job.received_at)).total_seconds())
