"""Jobs that belong into another queue are put into that: published, confirmed, and only then acked.

Those that came by a plain queue and ask for another model go to the queue of their model. Those that were delivered
together with another suspect are *set aside* while that is drawn alone: a daemon has at most one job in its hands that
may end it, and no other job has the delivery counted. They go to the high queue of the same model, since they have
waited once already, and there they are still to be drawn alone.

If this daemon dies in between, the job is in both queues: it may be drawn twice, and its reader drops the repeats.
"""

import asyncio
import logging
from dataclasses import replace
from typing import Final

from stablediffusiond.broker.message import SET_ASIDE, Delivery, Message
from stablediffusiond.broker.publisher import Publisher
from stablediffusiond.broker.topology import RequestQueue, Topology
from stablediffusiond.errors import MessageTooLarge, QueueUnavailable, Unroutable
from stablediffusiond.logs import of_job
from stablediffusiond.requestd.in_flight import InFlightJob

log = logging.getLogger(__name__)

#: For an answer to whether a model is served.
_PATIENCE_SECONDS: Final = 10.0
#: For a suspect to be set aside; it is kept if its queue is full.
_SET_ASIDE_SECONDS: Final = 5.0
#: What the broker counts for the queue that the job came by; another one counts anew.
_COUNTED: Final = frozenset(
    {"x-delivery-count", "x-death", "x-first-death-queue", "x-first-death-reason", "x-first-death-exchange"}
)


class JobForwarding:
    """Publishes with ``publisher``, which a full queue may keep waiting."""

    def __init__(self, publisher: Publisher, topology: Topology) -> None:
        self._publisher = publisher
        self._topology = topology

    async def forward(self, job: InFlightJob, model: str) -> bool:
        """Return when the queue of ``model`` has the job; False if there is no such queue."""
        if not self._topology.has_queues(model):
            return False
        queue = self._topology.request_queue(job.priority, model)
        job.unfinished = 0  # it needs no place in a batch here
        try:
            await self._publisher.publish(_forwarded(job.message), queue)
        except (Unroutable, MessageTooLarge) as error:
            log.debug("job %s is not passed on to %s: %s", job.job_id, queue, error)
            return False
        log.info("job %s is passed on to %s", job.job_id, queue, extra=of_job(job.job_id or ""))
        return True

    async def set_aside(self, queue: RequestQueue, delivery: Delivery) -> bool:
        """Put what was delivered from ``queue`` back, as a message that never was; whether that was possible."""
        anew = _forwarded(delivery.message)
        message = replace(anew, headers={SET_ASIDE: queue.name, **anew.headers})
        where = self._topology.request_queue("high", queue.model)
        try:
            async with asyncio.timeout(_SET_ASIDE_SECONDS):
                await self._publisher.publish(message, where)
        except (TimeoutError, Unroutable, MessageTooLarge) as error:
            log.debug("job %s is not set aside in %s: %s", message.message_id, where, error)
            return False
        delivery.ack()
        log.info("job %s is set aside in %s", message.message_id, where, extra=of_job(message.message_id or ""))
        return True

    async def is_served(self, model: str) -> bool:
        """Whether a daemon that is connected now draws with ``model``."""
        if not (key := self._topology.serving_key(model)):
            return False
        try:
            await self._publisher.publish(
                Message(b"", persistent=False), key, exchange=self._topology.serving, patience_seconds=_PATIENCE_SECONDS
            )
        except (Unroutable, QueueUnavailable):  # the latter: our user may not declare the exchange, or not use it
            return False
        return True


def _forwarded(message: Message) -> Message:
    return replace(message, headers={name: value for name, value in message.headers.items() if name not in _COUNTED})
