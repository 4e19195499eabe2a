"""The queues of the models that requests may name: declared, made known to other daemons, and consumed.

Those of models that are here, or waited for, are the job puller's. At those of all others a consumer of the lowest
priority waits for one job each, as long as this daemon would load another model.
"""

import asyncio
import logging
from typing import Final

from stablediffusiond.broker.channel import Channel
from stablediffusiond.broker.connection import Connection
from stablediffusiond.broker.topology import RequestQueue, Topology, declare_queues
from stablediffusiond.errors import BrokerRefused, QueueMissing
from stablediffusiond.requestd.job_puller import JobPuller
from stablediffusiond.requestd.queue_choice import ABSENT, QueueChoice
from stablediffusiond.requestd.served_models import ServedModels

log = logging.getLogger(__name__)

Signature = tuple[object, ...]
#: Another priority is another consumer: nine milliseconds of the processor for each model at each load.
_MOST_MODELS_OF_TWO_PRIORITIES: Final = 64


class ModelQueues:
    """Those of one connection."""

    def __init__(
        self, connection: Connection, topology: Topology, choice: QueueChoice, models: ServedModels
    ) -> None:
        """The names of ``models`` may become more while this runs, or fewer."""
        self._connection = connection
        self._topology = topology
        self._choice = choice
        self._models = models
        self._serving: tuple[Channel, str] | None = None  #: the private queue that is bound for each model
        self._refused: set[str] = set()
        self._declared: dict[str, list[RequestQueue]] = {}
        self._changed = asyncio.Event()

    @property
    def near(self) -> list[RequestQueue]:
        """The queues of models that are here or waited for."""
        return [queue for model in self._choice.near for queue in self._declared.get(model, ())]

    async def run(self, puller: JobPuller) -> None:
        """Declare and consume until cancelled.

        Raises:
            BrokerError: the connection, or one of its channels, is lost.
        """
        consumed: Signature | None = None
        while True:
            self._changed.clear()
            await self._forget_gone()
            await self._declare_new(puller)
            if (signature := self._signature(puller)) != consumed:
                await self._consume(puller)
                consumed = signature
            await self._changed.wait()

    def look_again(self) -> None:
        """There may be other models, or room for one."""
        self._changed.set()

    async def _forget_gone(self) -> None:
        """Of models that were taken out of the settings: their queues are left to ``retired_queues``."""
        gone = self._declared.keys() - set(self._models.names)
        if not gone:
            return
        self._declared = {model: queues for model, queues in self._declared.items() if model not in gone}
        if self._serving is not None:
            channel, queue = self._serving
            await channel.delete_queue(queue)
            self._serving = None
        for model in self._declared:
            await self._make_known(model)

    async def _declare_new(self, puller: JobPuller) -> None:
        for model in self._models.names:
            if model in self._declared or model in self._refused or not self._topology.has_queues(model):
                continue
            queues = self._topology.request_queues(model)
            try:
                await declare_queues(self._connection, map(self._topology.declared, queues))
                await self._make_known(model)
            except (BrokerRefused, QueueMissing) as error:
                log.warning("%s has no queues of its own, and is drawn from the plain ones: %s", model, error)
                self._refused.add(model)
                self._serving = None
            else:
                self._declared[model] = queues
                puller.look_again()

    async def _make_known(self, model: str) -> None:
        key = self._topology.serving_key(model)
        if self._serving is None:
            channel = await self._connection.channel()
            self._serving = channel, await channel.bind_private_queue(self._topology.serving, [], 1)
        channel, queue = self._serving
        await channel.bind_queue(queue, self._topology.serving, key)

    def _signature(self, puller: JobPuller) -> Signature:
        """What decides about the consumers: while that stays the same there is nothing to do."""
        room = self._choice.wants_absent("high"), self._choice.wants_absent("normal"), puller.may_take
        return frozenset(self._choice.near), room, self._absent_priority, puller.deliveries, len(self._declared)

    @property
    def _absent_priority(self) -> int:
        return self._choice.absent_priority if len(self._declared) <= _MOST_MODELS_OF_TWO_PRIORITIES else ABSENT

    async def _consume(self, puller: JobPuller) -> None:
        near = self._choice.near
        absent = [queue for model, queues in self._declared.items() if model not in near for queue in queues]
        unwanted = [queue for queue in absent if not self._wants(queue, puller)]
        await puller.queues.stop_waiting(unwanted)
        for queue in puller.in_turn(absent):
            if self._wants(queue, puller):
                await puller.queues.consume_one(queue, self._absent_priority)

    def _wants(self, queue: RequestQueue, puller: JobPuller) -> bool:
        """Asked again after each delivery, which may be of a model that is waited for from then on."""
        return puller.may_take and queue.model not in self._choice.near and self._choice.wants_absent(queue.priority)
