"""Jobs that came by another queue than their model's are passed on to that: published, confirmed, and only then acked.

If this daemon dies in between, the job is in both queues: it may be drawn twice, and its reader drops the repeats.
"""

import logging
from dataclasses import replace
from typing import Final

from stablediffusiond.broker.message import Message
from stablediffusiond.broker.publisher import Publisher
from stablediffusiond.broker.topology import Topology
from stablediffusiond.errors import MessageTooLarge, QueueUnavailable, Unroutable
from stablediffusiond.logs import of_job
from stablediffusiond.requestd.in_flight import InFlightJob

log = logging.getLogger(__name__)

#: For an answer to whether a model is served.
_PATIENCE_SECONDS: Final = 10.0
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
