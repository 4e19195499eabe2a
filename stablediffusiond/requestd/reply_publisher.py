"""Where replies leave: to the client's queue, or, when nobody has it any more, to the queue of the unroutable."""

import asyncio
import logging
from typing import Final

from stablediffusiond.broker.message import Message
from stablediffusiond.broker.publisher import Publisher
from stablediffusiond.broker.topology import Topology
from stablediffusiond.errors import QueueUnavailable, Unroutable
from stablediffusiond.logs import of_job
from stablediffusiond.messages.replies import PreviewFacts
from stablediffusiond.messages.status import WorkerStatus
from stablediffusiond.requestd import reply_messages
from stablediffusiond.requestd.admission import ReplyAddress

log = logging.getLogger(__name__)

#: A cluster may take more than a minute until it gives up a node and elects another leader for the node's queues.
_PATIENCE_SECONDS: Final = 180.0
_PAUSE_SECONDS: Final = 5.0


class ReplyPublisher:
    """Sends what a job says."""

    def __init__(self, publisher: Publisher, topology: Topology) -> None:
        self._publisher = publisher
        self._topology = topology

    async def reply(self, where: ReplyAddress, message: Message) -> None:
        """Publish a reply and return when the broker has it, wherever that is."""
        kept, kept_in = reply_messages.unroutable(message, where.reply_to), self._topology.unroutable
        said, about = (where.job_id, where.reply_to, message.type, kept_in), of_job(where.job_id)
        while True:
            try:
                return await self._publisher.publish(message, where.reply_to, patience_seconds=_PATIENCE_SECONDS)
            except Unroutable:
                log.warning("job %s: no queue %s; %s is kept in %s", *said, extra=about)
            except QueueUnavailable:
                log.warning("job %s: the queue %s takes nothing; %s is kept in %s", *said, extra=about)
            try:
                return await self._publisher.publish(kept, kept_in, patience_seconds=_PATIENCE_SECONDS)
            except QueueUnavailable:
                log.warning("job %s: %s takes nothing, either; trying on", where.job_id, kept_in, extra=about)
                await asyncio.sleep(_PAUSE_SECONDS)

    async def dead_letter(self, request: Message, job_id: str, came_from: str, reason: str) -> None:
        """Keep a request, which came from the queue ``came_from``, for an operator."""
        await self._publisher.publish(reply_messages.dead(request, job_id, came_from, reason), self._topology.dead)

    async def answer(self, reply_to: str, correlation_id: str | None, worker: WorkerStatus) -> None:
        """Say how this daemon is to who asked, if they are still there."""
        if self._topology.may_reply_to(reply_to):
            await self._publisher.publish(reply_messages.status(correlation_id, worker), reply_to, mandatory=False)

    async def wants_previews(self, where: ReplyAddress) -> bool:
        """Whether somebody listens who has asked for previews: a message that nobody gets comes back."""
        if (key := self._topology.previews_of(where.reply_to)) is None:
            return False
        question = reply_messages.preview(where, PreviewFacts(id=where.job_id, index=0, step=1, steps=1), b"")
        try:
            await self._publisher.publish(question, key, exchange=self._topology.events)
        except Unroutable:
            return False
        return True

    def preview(self, where: ReplyAddress, facts: PreviewFacts, jpeg: bytes, *, requested: bool) -> None:
        """Show what there is: to all who listen if the request asked for it, else to those who did."""
        key = where.reply_to if requested else self._topology.previews_of(where.reply_to)
        if key is not None:
            self._publisher.publish_and_forget(reply_messages.preview(where, facts, jpeg), self._topology.events, key)

    def progress(self, where: ReplyAddress, step: int, steps: int) -> None:
        """Say how far a job is, to whoever listens now."""
        message = reply_messages.progress(where, step, steps)
        self._publisher.publish_and_forget(message, self._topology.events, where.reply_to)
