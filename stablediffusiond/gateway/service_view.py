"""How the service is, as the broker and the request daemons say; asked at most once in a while, however many ask us."""

import time
from typing import Final

from stablediffusiond.client.shared_task import SharedTask
from stablediffusiond.gateway.queue_client import QueueClient
from stablediffusiond.messages.names import file_name
from stablediffusiond.messages.status import Offer, ServiceStatus, WorkerStatus

_FRESH_SECONDS: Final = 2.0


class ServiceView:
    def __init__(self, queue: QueueClient) -> None:
        self._asking: SharedTask[ServiceStatus] = SharedTask(queue.status)
        self._status: ServiceStatus | None = None
        self._asked_at = 0.0

    async def status(self) -> ServiceStatus:
        """Raises Unavailable."""
        if self._status is None or time.monotonic() - self._asked_at > _FRESH_SECONDS:
            self._status = await self._asking.result()
            self._asked_at = time.monotonic()
        return self._status

    async def workers(self) -> list[WorkerStatus]:
        """The request daemons that have answered. Raises Unavailable."""
        return (await self.status()).workers

    async def models(self) -> list[str]:
        """The names of the models that may be asked for, the default first. Raises Unavailable."""
        named = [worker.offer.models if worker.offer else [] for worker in await self.workers()]
        defaults = [worker.model for worker in await self.workers()]
        return list(dict.fromkeys(file_name(name) for each in (defaults, *named) for name in each))

    async def offers(self) -> list[Offer]:
        """What each of them takes. Raises Unavailable."""
        return [worker.offer for worker in await self.workers() if worker.offer is not None]
