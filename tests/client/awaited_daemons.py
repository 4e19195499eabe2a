"""The fake daemons, for tests that have an event loop."""

import asyncio
import json

from tests.client.fake_daemons import FakeDaemons, TakenRequest


async def take(daemons: FakeDaemons) -> TakenRequest:
    return await asyncio.to_thread(daemons.take)


async def answer(daemons: FakeDaemons, count: int = 1) -> TakenRequest:
    """Draw and end the next job."""
    request = await take(daemons)
    daemons.draw(request, *range(count))
    daemons.finish(request)
    return request


class Cancels:
    """The ids that were cancelled, over the control exchange, since this was made."""

    def __init__(self, daemons: FakeDaemons) -> None:
        self._channel = daemons.channel
        self._queue = self._channel.queue_declare("", exclusive=True).method.queue
        self._channel.queue_bind(self._queue, daemons.topology.control)

    def __call__(self) -> list[str]:
        cancelled = []
        while (body := self._channel.basic_get(self._queue, auto_ack=True)[2]) is not None:
            cancelled.append(json.loads(body).get("cancel", ""))
        return [each for each in cancelled if each]
