"""From a delivery to a job that the engine may draw: read, its model at hand, and accepted by it."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from typing import Protocol

from stablediffusiond.broker.topology import Topology
from stablediffusiond.engine.job import Kind
from stablediffusiond.errors import Cancelled, Expired
from stablediffusiond.messages.complete_request import CompleteRequest
from stablediffusiond.messages.request import Request
from stablediffusiond.messages.values import Body
from stablediffusiond.requestd.admission import AcceptedRequest, ReadRequest, ReplyAddress, accept, read_request
from stablediffusiond.requestd.cancellations import Cancellations
from stablediffusiond.requestd.in_flight import InFlightJob
from stablediffusiond.requestd.model_set import ModelSet
from stablediffusiond.settings import LimitSettings


class Completes(Protocol):
    """The engine, as far as it says what its models make of a request."""

    def complete(self, request: Request) -> tuple[CompleteRequest, list[str]]: ...
    def kind_of(self, request: Request) -> Kind: ...
    def rows_of(self, request: CompleteRequest) -> int: ...


class JobAdmission:
    """Those of one daemon."""

    def __init__(
        self,
        engine: Completes,
        models: ModelSet,
        topology: Topology,
        limits: LimitSettings,
        *,
        find_model: Callable[[str | None], str],
    ) -> None:
        """``find_model`` gives the name of the model that a request means; ``models`` has it ready."""
        self._engine = engine
        self._models = models
        self._topology = topology
        self._find_model = find_model
        #: Those of the next job.
        self.limits = limits
        self.cancellations = Cancellations()

    def read(self, job: InFlightJob, fields: Body, where: ReplyAddress) -> ReadRequest:
        """The request of ``job``, if it is still to be drawn.

        Raises:
            JobError: it is not, or cannot be.
        """
        job.job_id = where.job_id
        read = read_request(
            job.message, fields, where, self._topology,
            find_model=self._find_model, priority=job.priority, received_at=job.received_at,
        )  # fmt: skip
        job.images = read.request.count
        self._check_due(read)
        return read

    def model_elsewhere(self, job: InFlightJob, read: ReadRequest) -> str | None:
        """The model whose queue ``job`` belongs to, if it came by a plain one, which is the default model's."""
        default = self._find_model(None)
        stays = job.queue.model is not None or read.request.model == default
        return None if stays else read.request.model

    @asynccontextmanager
    async def its_model(self, job: InFlightJob, read: ReadRequest) -> AsyncIterator[None]:
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
                    queued = queued_seconds(job.received_at, read)
                    # One that is drawn alone has everybody wait: its model is loaded at once.
                    priority = "high" if job.alone else job.priority
                    await used.enter_async_context(self._models.using(read.request.model or "", priority, queued))
            except TimeoutError:
                self._check_due(read)
                raise Expired("its deadline passed while its model was loaded") from None
            finally:
                job.model_wait = None
            yield

    def accept(self, job: InFlightJob, read: ReadRequest) -> AcceptedRequest:
        """The request with what its model chooses.

        Raises:
            JobError: it cannot be drawn.
        """
        self._check_due(read)
        accepted = accept(read, self._engine.complete, self.limits)
        job.kind, job.rows = self._engine.kind_of(accepted.request), self._engine.rows_of(accepted.request)
        job.unfinished = accepted.request.count
        return accepted

    def _check_due(self, read: ReadRequest) -> None:
        if self.cancellations.cover(read.address.job_id, read.published_at):
            raise Cancelled("cancelled before it was begun")
        if read.deadline is not None and time.monotonic() > read.deadline:
            raise Expired("its deadline had passed when it was delivered")


def queued_seconds(received_at: datetime, read: ReadRequest) -> float:
    """From publication to delivery; 0 for a message that does not say when it was published."""
    return max(0.0, (received_at - (read.published_at or received_at)).total_seconds())
