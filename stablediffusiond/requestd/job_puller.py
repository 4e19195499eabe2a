"""Jobs from the request queues of one connection: one at a time, when there is room; what was delivered before, alone.

A job that was delivered before and not acked (its daemon died) may be the one that kills daemons. Another job in flight
would die with it, and have one more failed delivery counted. So no further job is taken, what is in flight is finished,
and then it is drawn with no other job in flight.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable

from stablediffusiond.broker.channel import Channel
from stablediffusiond.broker.message import Delivery
from stablediffusiond.broker.topology import PRIORITIES, Topology
from stablediffusiond.logs import of_job
from stablediffusiond.messages.request import Priority
from stablediffusiond.requestd.job_processor import JobProcessor
from stablediffusiond.requestd.queue_failures import QueueFailures
from stablediffusiond.requestd.request_queues import RequestQueues

log = logging.getLogger(__name__)


class JobPuller:
    """Takes jobs into ``processor`` for as long as ``channel`` is open."""

    def __init__(
        self,
        channel: Channel,
        topology: Topology,
        processor: JobProcessor,
        may_take: Callable[[Priority], bool],
        failures: QueueFailures,
    ) -> None:
        """``may_take`` says whether there is room for a job of a priority; ``look_again`` has it asked once more."""
        self._processor = processor
        self._may_take = may_take
        self._suspects: deque[Delivery] = deque()  #: delivered before, and not drawn yet
        self._changed = asyncio.Event()
        self.queues = RequestQueues(channel, topology, self._on_delivery, failures)

    async def run(self) -> None:
        """Take jobs until cancelled."""
        await self._get_back()
        while True:
            self._changed.clear()
            if self._suspects:
                await self._stop_waiting()
                await self._draw_suspects()
            else:
                await self._consume()
                await self._changed.wait()

    def look_again(self) -> None:
        """There may be room for another job."""
        self._changed.set()

    async def stop(self) -> None:
        """After ``run`` was cancelled: have nothing more delivered. What was delivered can still be acked.

        Raises:
            BrokerError: the channel is lost.
        """
        await self._stop_waiting()
        for delivery in self._suspects:
            delivery.requeue()

    async def _get_back(self) -> None:
        """Have the jobs that outlived their connection delivered again, before another daemon draws them, too.

        RabbitMQ has put them at the heads of their queues. Where another daemon was first, what is delivered in their
        place is drawn here.
        """
        for priority in PRIORITIES:
            while self._processor.in_flight.lacks_delivery(priority):
                if not await self.queues.consume_one(priority) or not self._suspects:
                    break
                await self._draw_suspects()

    async def _consume(self) -> None:
        """Have a job delivered of the highest priority that there is room for.

        Consumers of the queues that are empty wait for the next one.
        """
        for priority in PRIORITIES:
            if self._suspects or not self._processor.in_flight.all_read:
                return  # ``_changed`` is set as soon as it is known how much room the last job takes
            if not self._may_take(priority):
                await self.queues.stop_waiting(priority)
            elif await self.queues.consume_one(priority):
                return

    async def _stop_waiting(self) -> None:
        for priority in PRIORITIES:
            await self.queues.stop_waiting(priority)

    def _on_delivery(self, delivery: Delivery) -> None:
        if delivery.earlier_deliveries:
            self._suspects.append(delivery)
        else:
            self._processor.receive(delivery)
        self._changed.set()

    async def _draw_suspects(self) -> None:
        """Each alone, after everything else has been settled."""
        while self._suspects:
            delivery = self._suspects[0]  # it stays there while it waits, so that ``stop`` requeues it
            if self._processor.in_flight.recognise(delivery):
                self._suspects.popleft()
                continue
            await self._processor.in_flight.empty()
            self._suspects.popleft()
            job_id, times = delivery.message.message_id or "without id", delivery.earlier_deliveries
            log.info("job %s was delivered %d times before; it is drawn alone", job_id, times, extra=of_job(job_id))
            self._processor.receive(delivery)
            await self._processor.in_flight.empty()
