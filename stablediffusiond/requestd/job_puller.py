"""Jobs from the request queues of one connection: one at a time, when there is room; what was delivered before, alone.

A job that was delivered before and not acked (its daemon died) may be the one that kills daemons: a *suspect*. Another
job in flight would die with it, and have one more failed delivery counted. So no further job is taken, what is in
flight is finished, and then it is drawn with no other job in flight. When a daemon dies, RabbitMQ gives its jobs at
once to all consumers that wait: of several suspects one is kept, and the others are set aside (``job_forwarding.py``).
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable

from stablediffusiond.broker.channel import Channel
from stablediffusiond.broker.message import Delivery
from stablediffusiond.broker.topology import PRIORITIES, RequestQueue
from stablediffusiond.logs import of_job
from stablediffusiond.requestd.job_forwarding import JobForwarding
from stablediffusiond.requestd.job_processor import JobProcessor
from stablediffusiond.requestd.queue_failures import QueueFailures
from stablediffusiond.requestd.request_queues import RequestQueues

log = logging.getLogger(__name__)


class JobPuller:
    """Takes jobs into ``processor`` for as long as ``channel`` is open."""

    def __init__(
        self,
        channel: Channel,
        processor: JobProcessor,
        sources: Callable[[], Iterable[RequestQueue]],
        priority_now: Callable[[RequestQueue], int | None],
        *,
        forwarding: JobForwarding,
        failures: QueueFailures,
    ) -> None:
        """``sources`` gives the queues that jobs may be taken from, ``priority_now`` with which consumer priority.

        Where that is None there is no room for a job of that queue; ``look_again`` has both asked once more.
        """
        self._processor = processor
        self._sources = sources
        self._priority_now = priority_now
        self._forwarding = forwarding
        #: Delivered before, and not drawn yet.
        self._suspects: deque[tuple[RequestQueue, Delivery]] = deque()
        self._drawing_alone = False
        #: Of this connection, so far.
        self.deliveries = 0
        self._last: dict[RequestQueue, int] = {}  #: the number of the last one from each queue
        self._last_alone: RequestQueue | None = None  #: if the last job was drawn alone, the queue that it came from
        self._changed = asyncio.Event()
        self.queues = RequestQueues(channel, self._on_delivery, failures)

    @property
    def may_take(self) -> bool:
        """Whether it is known what every job here asks for, and none of them is drawn alone, or is to be."""
        return not self._suspects and not self._drawing_alone and self._processor.in_flight.all_read

    async def run(self) -> None:
        """Take jobs until cancelled."""
        await self._get_back()
        while True:
            self._changed.clear()
            if self._suspects:
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
        for _, delivery in self._suspects:
            delivery.requeue()

    async def _get_back(self) -> None:
        """Have the jobs that outlived their connection delivered again, before another daemon draws them, too.

        RabbitMQ has put them at the heads of their queues. Where another daemon was first, what is delivered in their
        place is drawn here.
        """
        for queue in self.in_turn(self._processor.in_flight.lacking_delivery):
            while queue in self._processor.in_flight.lacking_delivery:
                if not await self.queues.consume_one(queue) or not self._suspects:
                    break
                await self._draw_suspects()

    async def _consume(self) -> None:
        """Have a job delivered of the highest priority that there is room for.

        Consumers of the queues that are empty wait for the next one.
        """
        for queue in self.in_turn(self._sources()):
            if not self.may_take:
                return  # ``_changed`` is set as soon as it is known how much room the last job takes
            priority = self._priority_now(queue)
            if priority is None:
                await self.queues.stop_waiting([queue])
            elif await self.queues.consume_one(queue, priority):
                return

    def in_turn(self, queues: Iterable[RequestQueue]) -> list[RequestQueue]:
        """The highest priority first; of the same, the queue first from which no job has come for the longest time.

        But after a suspect the next of the same model, since nothing else is drawn while a model is loaded for one.
        """
        return sorted(queues, key=self._turn)

    def _turn(self, queue: RequestQueue) -> tuple[int, bool, int]:
        another_model = self._last_alone is not None and queue.model != self._last_alone.model
        return PRIORITIES.index(queue.priority), another_model, self._last.get(queue, 0)

    async def _stop_waiting(self) -> None:
        await self.queues.stop_waiting(list(self.queues.waiting))

    def _on_delivery(self, queue: RequestQueue, delivery: Delivery) -> None:
        self.deliveries += 1
        self._last[queue] = self.deliveries
        if delivery.suspect:
            self._suspects.append((queue, delivery))
        else:
            self._last_alone = None
            self._processor.receive(delivery, queue)
        self._changed.set()

    async def _draw_suspects(self) -> None:
        """Each alone, after everything else has been settled."""
        self._drawing_alone = True
        await self._stop_waiting()
        await self._draw_each_suspect()
        self._drawing_alone = False
        self._processor.on_change()  # for the queues of models, which have not been consumed meanwhile

    async def _draw_each_suspect(self) -> None:
        while self._suspects:
            await self._keep_one_suspect()
            await self._processor.in_flight.empty()
            if not self._suspects:
                return
            queue, delivery = self._suspects.popleft()
            job_id, times = delivery.message.message_id or "without id", delivery.earlier_deliveries
            before = f"delivered {times} times before" if times else "set aside"
            log.info("job %s was %s; it is drawn alone", job_id, before, extra=of_job(job_id))
            self._last_alone = queue
            self._processor.receive(delivery, queue, alone=True)
            await self._processor.in_flight.empty()

    async def _keep_one_suspect(self) -> None:
        """Set the others aside. Those that are in flight here, or answered, are none."""
        for each in list(self._suspects):
            if self._processor.in_flight.recognise(each[1]):
                self._suspects.remove(each)
        for each in list(self._suspects)[1:]:
            if await self._forwarding.set_aside(*each):
                self._suspects.remove(each)
