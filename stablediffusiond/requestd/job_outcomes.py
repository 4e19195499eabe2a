"""How a job ends: its last reply, what is counted, and what is logged."""

import logging

from stablediffusiond.broker.message import Message
from stablediffusiond.broker.topology import Topology
from stablediffusiond.errors import InvalidRequest, JobError, UnreadableMessage
from stablediffusiond.logs import of_job
from stablediffusiond.messages.replies import Done
from stablediffusiond.requestd import reply_messages
from stablediffusiond.requestd.admission import ReplyAddress
from stablediffusiond.requestd.counters import Counters
from stablediffusiond.requestd.reply_publisher import ReplyPublisher

log = logging.getLogger(__name__)


class JobOutcomes:
    """Each method returns when the broker has confirmed the reply."""

    def __init__(self, replies: ReplyPublisher, topology: Topology, counters: Counters) -> None:
        self._replies = replies
        self._topology = topology
        self._counters = counters

    async def done(self, where: ReplyAddress, done: Done) -> None:
        await self._replies.reply(where, reply_messages.done(where, done))
        self._counters.job_ended("done")
        about = of_job(where.job_id)
        log.info("job %s done: %d pictures in %.2f s", where.job_id, done.images, done.total_seconds, extra=about)

    async def failed(self, where: ReplyAddress, error: JobError) -> None:
        log.info("job %s failed: %s: %s", where.job_id, error.code, error, extra=of_job(where.job_id))
        await self._replies.reply(where, reply_messages.failed(where, error))
        self._counters.job_ended(error.code)

    async def unreadable(self, where: ReplyAddress, message: Message, queue: str, error: UnreadableMessage) -> None:
        """``message``, which came from ``queue``, is also put aside for an operator."""
        kept_in, about = self._topology.dead, of_job(where.job_id)
        log.warning("job %s: %s; it is kept in %s", where.job_id, error, kept_in, extra=about)
        await self._replies.reply(where, reply_messages.failed(where, InvalidRequest(str(error))))
        await self._replies.dead_letter(message, where.job_id, queue, str(error))
        self._counters.job_ended(InvalidRequest.code)
