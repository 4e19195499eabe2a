"""The queues of models that were taken out of the settings: what still comes by them is answered, and nothing waits.

Such a queue is not deleted, since somebody may be publishing to it. It is consumed only while no daemon draws with its
model, and its jobs are then answered like those of any model that nobody has.
"""

import asyncio
import contextlib
import logging
from typing import Final

from stablediffusiond.broker.connection import Connection
from stablediffusiond.broker.topology import RequestQueue, Topology, depths
from stablediffusiond.requestd.job_puller import JobPuller
from stablediffusiond.requestd.served_models import ServedModels

log = logging.getLogger(__name__)

#: Below that of every daemon that has the model, or could load it.
RETIRED: Final = -10
#: Other daemons, which may have the model, come and go without an event.
_LOOK_SECONDS: Final = 30.0


class RetiredQueues:
    """Those of one connection."""

    def __init__(self, connection: Connection, topology: Topology, models: ServedModels) -> None:
        self._connection = connection
        self._topology = topology
        self._models = models
        self._consumed: set[RequestQueue] = set()
        self._looked_at: list[str] = []
        self._look = asyncio.Event()

    async def run(self, puller: JobPuller) -> None:
        """Consume until cancelled.

        Raises:
            BrokerError: the connection, or one of its channels, is lost.
        """
        while True:
            self._look.clear()
            self._looked_at = self._models.retired
            for model in self._looked_at:
                await self._consume(model, puller)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._look.wait(), _LOOK_SECONDS)

    def look_again(self, puller: JobPuller) -> None:
        """Models may have been taken out; a job may have come, and then the next one is asked for."""
        if not self._consumed <= set(puller.queues.waiting) or self._models.retired != self._looked_at:
            self._look.set()

    async def _consume(self, model: str, puller: JobPuller) -> None:
        queues = self._topology.request_queues(model)
        there = await depths(self._connection, [queue.name for queue in queues])
        queues = [queue for queue in queues if queue.name in there]
        self._consumed.difference_update(queues)
        if not queues or await self._models.is_served(model):
            await puller.queues.stop_waiting(queues)
            return
        for queue in queues:
            if puller.queues.waits_with(queue) != RETIRED and puller.may_take:
                await puller.queues.consume_one(queue, RETIRED)
            self._consumed.add(queue)
