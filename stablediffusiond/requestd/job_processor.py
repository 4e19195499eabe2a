"""One job from its delivery to its ack, in the order in which it happens.

Every reply is published and confirmed before the request is acked, so that no job is lost. Every job ends here, with
exactly one ``done`` or ``failed``. An error that no job is the cause of (a bug) ends the daemon, and RabbitMQ delivers
the job again.
"""

import asyncio
import uuid
from collections.abc import Callable
from datetime import UTC, datetime

from stablediffusiond.broker.message import Delivery
from stablediffusiond.broker.topology import RequestQueue, Topology
from stablediffusiond.engine.engine import Engine
from stablediffusiond.engine.job import Drawn, Ending, Event, Failed
from stablediffusiond.errors import JobError, UnknownModel, UnreadableMessage
from stablediffusiond.messages.replies import Done
from stablediffusiond.requestd.admission import (
    AcceptedRequest,
    ReadRequest,
    ReplyAddress,
    address,
    read,
)
from stablediffusiond.requestd.counters import Counters
from stablediffusiond.requestd.in_flight import InFlightJob, InFlightJobs
from stablediffusiond.requestd.job_admission import JobAdmission, queued_seconds
from stablediffusiond.requestd.job_drawing import JobDrawing
from stablediffusiond.requestd.job_forwarding import JobForwarding
from stablediffusiond.requestd.job_outcomes import JobOutcomes
from stablediffusiond.requestd.reply_publisher import ReplyPublisher
from stablediffusiond.requestd.served_models import ServedModels
from stablediffusiond.settings import LimitSettings


class JobProcessor:
    """Every job that was delivered to this daemon."""

    def __init__(
        self,
        engine: Engine,
        admission: JobAdmission,
        drawing: JobDrawing,
        replies: ReplyPublisher,
        *,
        forwarding: JobForwarding,
        models: ServedModels,
        topology: Topology,
    ) -> None:
        self.in_flight = InFlightJobs()
        self.counters = Counters()
        self._engine = engine
        self._drawing = drawing
        self._forwarding = forwarding
        self._models = models
        self._outcomes = JobOutcomes(replies, topology, self.counters)
        self._topology = topology
        self._admission = admission
        #: Called whenever a job comes, is read or ends, an image is about to be finished, or a picture to be published.
        self.on_change: Callable[[], None] = lambda: None
        #: Fails with the first error that is a bug and that no job is the cause of.
        self.broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def unpublished(self) -> int:
        """Pictures that are drawn and not confirmed by the broker."""
        return sum(job.unpublished for job in self.in_flight)

    def limit(self, limits: LimitSettings) -> None:
        """Other limits, from the next job on."""
        self._drawing.limits = self._admission.limits = limits

    # Deliveries and events

    def receive(self, delivery: Delivery, queue: RequestQueue, *, alone: bool = False) -> None:
        """Begin with a job, which came from ``queue``; ``alone``, there is no other."""
        job = self.in_flight.take(delivery, queue, alone=alone)
        job.task = asyncio.create_task(self._process(job), name=f"job {job.key}")
        job.task.add_done_callback(self._on_ended)
        self.on_change()

    def on_event(self, event: Event) -> None:
        """What the engine reports of a job; called on the loop's thread."""
        if (job := self.in_flight.get(event.task.key)) is None:
            return  # it was requeued meanwhile
        job.begun = True
        match event:
            case Ending():
                job.unfinished = max(0, (job.unfinished or 0) - 1)
                self.on_change()
                return
            case Drawn():
                job.drawn += 1
                job.unpublished += 1
                self.on_change()
            case Failed():
                job.unfinished = 0
        job.events.put_nowait(event)

    def cancel(self, job_id: str) -> None:
        """End a job before its next step; one that was not delivered yet, when it is."""
        self._admission.cancellations.add(job_id)
        for job in self.in_flight:
            if job.job_id == job_id:
                self._engine.cancel(job.key)
                if job.model_wait is not None:
                    job.model_wait.reschedule(0.0)  # the job sees why

    # Requeueing

    def requeue_waiting(self) -> None:
        """Requeue every job that the engine has not begun."""
        for job in self.in_flight:
            if not job.begun:
                self._requeue(job)

    def requeue_all(self) -> None:
        """Requeue every job, whatever of it is drawn."""
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
            fields = read(job.message, self._admission.limits)
            where = address(job.message, self._topology, fields, where.job_id)
            request = self._admission.read(job, fields, where)
            if not await self._forwarded(job, request):
                await self._outcomes.done(where, await self._draw(job, request))
        except UnknownModel as error:
            elsewhere = await self._models.may_be_elsewhere(error.asked)
            if not (elsewhere and await self._forwarding.forward(job, error.asked)):
                await self._fail(job, where, error)
        except UnreadableMessage as error:
            self._draw_no_more(job)
            await self._outcomes.unreadable(where, job.message, job.queue.name, error)
        except JobError as error:
            await self._fail(job, where, error)
        self.in_flight.settle(job)

    async def _forwarded(self, job: InFlightJob, request: ReadRequest) -> bool:
        """Whether the queue of its model has the job now."""
        model = self._admission.model_elsewhere(job, request)
        return model is not None and await self._forwarding.forward(job, model)

    async def _draw(self, job: InFlightJob, request: ReadRequest) -> Done:
        """Raises JobError."""
        self.counters.queued_seconds.add(queued_seconds(job.received_at, request))
        async with self._admission.its_model(job, request):
            accepted = self._admission.accept(job, request)
            self.on_change()
            engine_seconds = await self._drawing.draw(job, accepted, lambda: self._on_published(job))
        return _done(job, accepted, engine_seconds)

    async def _fail(self, job: InFlightJob, where: ReplyAddress, error: JobError) -> None:
        self._draw_no_more(job)
        await self._outcomes.failed(where, error)

    def _on_published(self, job: InFlightJob) -> None:
        self.counters.picture_published()
        job.unpublished -= 1
        job.published += 1
        self.on_change()

    def _draw_no_more(self, job: InFlightJob) -> None:
        """The job has failed: none of its images needs a place in the batch any more."""
        job.unfinished = 0
        self._engine.cancel(job.key)
        self.on_change()

    def _on_ended(self, task: asyncio.Task[None]) -> None:
        self.on_change()
        if not task.cancelled() and (error := task.exception()) and not self.broken.done():
            self.broken.set_exception(error)


def _done(job: InFlightJob, accepted: AcceptedRequest, engine_seconds: float) -> Done:
    """Where the time went. AMQP's timestamps are whole seconds, so what follows them may be up to one too long."""
    now = datetime.now(UTC)
    began = accepted.published_at or job.received_at
    return Done(
        id=accepted.address.job_id,
        images=job.published,
        queued_seconds=round(queued_seconds(job.received_at, accepted), 3),
        engine_seconds=round(engine_seconds, 3),
        total_seconds=round(max(0.0, (now - began).total_seconds()), 3),
        warnings=accepted.warnings,
    )
