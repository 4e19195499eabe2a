"""The jobs that no daemon survived: the broker gives up on them, and somebody has to tell their clients.

They come from the queue ``….crashed``, where the request queues dead-letter to after too many deliveries. Whichever
daemon is up answers ``failed`` / ``crashed`` and moves the job to ``….dead`` for the operator. Nothing of the body is
trusted but its id.

A delivery also ends when no more than its connection breaks. A daemon that outlived its connections still has the job,
so before anybody answers, the job is passed round for some seconds: who has it keeps it, and its answer stands.
"""

import asyncio
import contextlib
import logging
from dataclasses import replace
from typing import Final

from stablediffusiond.broker.channel import Channel
from stablediffusiond.broker.message import Delivery
from stablediffusiond.broker.topology import REQUEST_DELIVERY_LIMIT, Topology
from stablediffusiond.errors import Crashed as CrashedError
from stablediffusiond.errors import UnreadableMessage
from stablediffusiond.logs import of_job
from stablediffusiond.messages.body import parse
from stablediffusiond.messages.values import Body
from stablediffusiond.requestd import reply_messages
from stablediffusiond.requestd.admission import address
from stablediffusiond.requestd.in_flight import InFlightJobs
from stablediffusiond.requestd.reply_publisher import ReplyPublisher

log = logging.getLogger(__name__)

#: How often a job is passed on, and how long each time is: together enough for a lost connection to be made again.
ROUNDS: Final = 3
_ROUND_SECONDS: Final = 1.0


class DeadLetterConsumer:
    """Answers for the dead."""

    def __init__(self, topology: Topology, replies: ReplyPublisher, in_flight: InFlightJobs) -> None:
        self._topology = topology
        self._in_flight = in_flight
        self._replies = replies
        self._tasks: set[asyncio.Task[None]] = set()
        #: Fails with the first error that is a bug: the queue would stand still, with a job unacked, and nobody know.
        self.broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def consume(self, channel: Channel) -> None:
        """Take crashed jobs from ``channel``, one at a time, for as long as it lives."""

        def on_delivery(delivery: Delivery) -> None:
            task = asyncio.create_task(self._receive(delivery), name="answering a crashed job")
            self._tasks.add(task)
            task.add_done_callback(self._on_ended)

        await channel.consume(self._topology.crashed, on_delivery, prefetch=1)

    async def _receive(self, delivery: Delivery) -> None:
        if self._in_flight.recognise(delivery):
            return
        if _has_rounds_left(delivery):
            await asyncio.sleep(_ROUND_SECONDS)
            delivery.requeue()
        else:
            await self._answer(delivery)

    async def _answer(self, delivery: Delivery) -> None:
        message, fields = delivery.message, Body()
        if delivery.earlier_deliveries > ROUNDS + REQUEST_DELIVERY_LIMIT:
            message = replace(message, headers={})  # answering has not worked either: believe only the plain properties
        else:
            with contextlib.suppress(UnreadableMessage):  # it is answered and kept all the same
                fields = parse(message.body)
        where = address(message, self._topology, fields)
        reason = f"delivered {REQUEST_DELIVERY_LIMIT + 1} times, and the daemon ended each time before it was answered"
        kept_in, about = self._topology.dead, of_job(where.job_id)
        log.error("job %s: %s; it is kept in %s", where.job_id, reason, kept_in, extra=about)
        await self._replies.reply(where, reply_messages.failed(where, CrashedError(reason)))
        came_from = str(message.headers.get("x-first-death-queue", self._topology.requests))
        await self._replies.dead_letter(message, where.job_id, came_from, reason)
        delivery.ack()

    def _on_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) and not self.broken.done():
            self.broken.set_exception(error)


def _has_rounds_left(delivery: Delivery) -> bool:
    """RabbitMQ 4.0 gives a job out for the first time with the count that it died of, and then counts from one."""
    died_of = REQUEST_DELIVERY_LIMIT + 1
    return delivery.earlier_deliveries < ROUNDS or delivery.earlier_deliveries == died_of
