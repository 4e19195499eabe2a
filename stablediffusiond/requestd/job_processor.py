"""One job from its delivery to its ack, in the order in which it happens.

Every reply is published and confirmed before the request is acked, so that no job is lost. Every job ends here, with
exactly one ``done`` or ``failed``. An error that no job is the cause of (a bug) ends the daemon, and RabbitMQ delivers
the job again.
"""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime

from stablediffusiond.broker.message import Delivery
from stablediffusiond.broker.topology import Topology
from stablediffusiond.engine.engine import Engine
from stablediffusiond.engine.job import Drawn, Ending, Event, Failed
from stablediffusiond.errors import Cancelled, Expired, JobError, UnreadableMessage
from stablediffusiond.messages.replies import Done
from stablediffusiond.messages.values import Body
from stablediffusiond.requestd.admission import (
    AcceptedRequest,
    ReadRequest,
    ReplyAddress,
    accept,
    address,
    read,
    read_request,
)
from stablediffusiond.requestd.cancellations import Cancellations
from stablediffusiond.requestd.counters import Counters
from stablediffusiond.requestd.in_flight import InFlightJob, InFlightJobs
from stablediffusiond.requestd.job_drawing import JobDrawing
from stablediffusiond.requestd.job_outcomes import JobOutcomes
from stablediffusiond.requestd.model_set import ModelSet
from stablediffusiond.requestd.reply_publisher import ReplyPublisher
from stablediffusiond.settings import LimitSettings


class JobProcessor:
    """Every job that was delivered to this daemon."""

    def __init__(
        self,
        engine: Engine,
        drawing: JobDrawing,
        replies: ReplyPublisher,
        topology: Topology,
        limits: LimitSettings,
        *,
        models: ModelSet,
        find_model: Callable[[str | None], str],
    ) -> None:
        """``find_model`` gives the name of the model that a request means; ``models`` has it ready."""
        self.in_flight = InFlightJobs()
        self.counters = Counters()
        self._engine = engine
        self._drawing = drawing
        self._outcomes = JobOutcomes(replies, topology, self.counters)
        self._topology = topology
        self._limits = limits
        self._models = models
        self._find_model = find_model
        #: Called whenever a job comes, is read or ends, an image is about to be finished, or a picture to be published.
        self.on_change: Callable[[], None] = lambda: None
        self._cancellations = Cancellations()
        #: Fails with the first error that is a bug and that no job is the cause of.
        self.broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def unpublished(self) -> int:
        """Pictures that are drawn and not confirmed by the broker."""
        return sum(job.unpublished for job in self.in_flight)

    def limit(self, limits: LimitSettings) -> None:
        """Other limits, from the next job on."""
        self._limits = self._drawing.limits = limits

    # Deliveries and events

    def receive(self, delivery: Delivery) -> None:
        """Begin with a job."""
        job = self.in_flight.take(delivery, self._topology.priority_of(delivery.queue))
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
        self._cancellations.add(job_id)
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
            fields = read(job.message, self._limits)
            where = address(job.message, self._topology, fields, where.job_id)
            request = self._read(job, fields, where)
            async with self._its_model(job, request):
                accepted = self._accept(job, request)
                engine_seconds = await self._drawing.draw(job, accepted, lambda: self._on_published(job))
        except UnreadableMessage as error:
            self._draw_no_more(job)
            await self._outcomes.unreadable(where, job.message, self._topology.request_queue(job.priority), error)
        except JobError as error:
            self._draw_no_more(job)
            await self._outcomes.failed(where, error)
        else:
            await self._outcomes.done(where, _done(job, accepted, engine_seconds))
        self.in_flight.settle(job)

    def _read(self, job: InFlightJob, fields: Body, where: ReplyAddress) -> ReadRequest:
        """The request, if it is still to be drawn.

        Raises:
            JobError: it is not, or cannot be.
        """
        job.job_id = where.job_id
        read = read_request(
            job.message, fields, where, self._topology,
            find_model=self._find_model, priority=job.priority, received_at=job.received_at,
        )  # fmt: skip
        job.images = read.request.count
        self.counters.queued_seconds.add(_queued_seconds(job, read))
        self._check_due(read)
        return read

    @asynccontextmanager
    async def _its_model(self, job: InFlightJob, read: ReadRequest) -> AsyncIterator[None]:
        """Have the model of ``job`` at hand. While it waits for that it needs no place in a batch.

        Raises:
            JobError: the model cannot be loaded, or the job has been cancelled or has expired meanwhile.
        """
        job.unfinished = 0
        waiting = asyncio.timeout(None if read.deadline is None else max(0.0, read.deadline - time.monotonic()))
        async with AsyncExitStack() as used:
            job.model_wait = waiting
            try:
                async with waiting:
                    await used.enter_async_context(self._models.using(read.request.model or "", job.priority))
            except TimeoutError:
                self._check_due(read)
                raise Expired("its deadline passed while its model was loaded") from None
            finally:
                job.model_wait = None
            yield

    def _check_due(self, read: ReadRequest) -> None:
        if self._cancellations.cover(read.address.job_id, read.published_at):
            raise Cancelled("cancelled before it was begun")
        if read.deadline is not None and time.monotonic() > read.deadline:
            raise Expired("its deadline had passed when it was delivered")

    def _accept(self, job: InFlightJob, read: ReadRequest) -> AcceptedRequest:
        """The request with what its model chooses.

        Raises:
            JobError: it cannot be drawn.
        """
        self._check_due(read)
        accepted = accept(read, self._engine.complete, self._limits)
        job.kind, job.rows = self._engine.kind_of(accepted.request), self._engine.rows_of(accepted.request)
        job.unfinished = accepted.request.count
        self.on_change()
        return accepted

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
        queued_seconds=round(_queued_seconds(job, accepted), 3),
        engine_seconds=round(engine_seconds, 3),
        total_seconds=round(max(0.0, (now - began).total_seconds()), 3),
        warnings=accepted.warnings,
    )


def _queued_seconds(job: InFlightJob, read: ReadRequest) -> float:
    """From publication to delivery; 0 for a message that does not say when it was published."""
    return max(0.0, (job.received_at - (read.published_at or job.received_at)).total_seconds())
