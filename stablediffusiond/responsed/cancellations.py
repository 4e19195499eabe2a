"""Cancellations that clients of the socket ask for, published to the request daemons."""

import asyncio
from typing import Final

from stablediffusiond.broker.message import Message
from stablediffusiond.broker.publisher import Publisher
from stablediffusiond.broker.topology import Topology
from stablediffusiond.errors import OpError
from stablediffusiond.messages.replies import Cancel

_TIMEOUT_SECONDS: Final = 5


class CancelPublisher:
    """Publishes to the control exchange, which every request daemon reads."""

    def __init__(self, topology: Topology, publisher: Publisher) -> None:
        self._exchange = topology.control
        self._publisher = publisher

    async def publish(self, job_id: str) -> None:
        """Have a job cancelled, of any client.

        Raises:
            OpError: the broker does not take it now.
        """
        body = Cancel(cancel=job_id).model_dump_json().encode()
        message = Message(body, content_type="application/json", message_id=job_id, persistent=False)
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                await self._publisher.publish(message, "", exchange=self._exchange, mandatory=False)
        except TimeoutError:
            raise OpError("broker_away", f"the broker does not take the cancellation of {job_id!r} now") from None
