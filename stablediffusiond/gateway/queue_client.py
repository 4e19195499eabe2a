"""The gateway as a client of the queue: requests go to the broker, replies come from the response daemon.

The queue for the replies is the gateway's own, and always the same one: see ``store/identity.py``.
"""

import asyncio
import logging
from typing import Final

from stablediffusiond.broker.topology import Topology
from stablediffusiond.client.listener import Listener
from stablediffusiond.client.outgoing import cancellation, to_message
from stablediffusiond.client.submitter import Submitter
from stablediffusiond.errors import BrokerError, MessageTooLarge, Nacked, ResponsesAway, TooLarge, Unroutable
from stablediffusiond.frames import Listen
from stablediffusiond.gateway.errors import Unavailable
from stablediffusiond.gateway.replies import Replies
from stablediffusiond.messages.request import Request
from stablediffusiond.messages.status import ServiceStatus
from stablediffusiond.settings import Settings

log = logging.getLogger(__name__)

_NAME: Final = "stablediffusion_gateway"
#: Replies on the way to us; this times a picture is what they cost in memory.
_PREFETCH: Final = 8
_RECONNECT_SECONDS: Final = 30.0
_PAUSE_SECONDS: Final = (0.2, 5.0)
#: How long a client waits to hear that the broker is away.
_PATIENCE_SECONDS: Final = 5.0


class InDoubt(Unavailable):
    """Raised when it is not known whether the broker has a job."""


class QueueClient:
    """Connects with the first job, and listens from ``run`` on."""

    def __init__(self, settings: Settings, queue: str, replies: Replies) -> None:
        self._topology = Topology(settings.queues.requests, settings.queues.results)
        self._most_bytes = settings.limits.max_request_bytes
        self._queue = queue
        self._replies = replies
        self._submitter = Submitter(settings.broker, 1.0, _NAME)
        listen = Listen(
            queue=queue, progress=True, previews=True, encoding="binary", ack="manual", prefetch=_PREFETCH
        )  # fmt: skip
        self._listener = Listener(
            settings.responses,
            listen,
            replies,
            reconnect_seconds=_RECONNECT_SECONDS,
            reach_broker=self._submitter.connect,
        )

    @property
    def is_listening(self) -> bool:
        return bool(self._listener.descriptors)

    async def run(self) -> None:
        """Listen, as long as it takes to begin; ends only if that ends, which nothing but a bug can do."""
        await self._begin()
        await self._replies.closed.wait()

    async def _begin(self) -> None:
        pause_seconds, longest_seconds = _PAUSE_SECONDS
        known = ""
        while True:
            try:
                return await self._listener.start()
            except (ResponsesAway, BrokerError) as error:
                if str(error) != known:
                    log.warning("no replies come yet: %s; trying on", error)
                    known = str(error)
            await asyncio.sleep(pause_seconds)
            pause_seconds = min(pause_seconds * 2, longest_seconds)

    async def publish(self, request: Request) -> None:
        """Publish, and return when the broker has confirmed that it has the job.

        Raises:
            InvalidRequest, TooLarge: it has too many bytes.
            Unavailable: it is not published.
            InDoubt: it may be.
        """
        message = await asyncio.to_thread(to_message, request, self._queue, self._most_bytes)
        queue = self._topology.request_queue(request.priority)
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await self._submitter.publish_request(message, self._topology, request)
        except Unroutable:
            raise Unavailable(f"there is no queue {queue!r}: start stablediffusiond once, which makes it") from None
        except Nacked:
            raise Unavailable("the queue is full; try again later") from None
        except MessageTooLarge as error:
            raise TooLarge(str(error)) from None
        except TimeoutError:
            raise InDoubt("the broker takes nothing now; try again later") from None
        except BrokerError as error:
            log.debug("job %s is not published: %s", request.id, error)
            raise InDoubt("the broker cannot be reached; try again later") from None

    async def cancel(self, job_id: str) -> None:
        """Have a job cancelled. Raises Unavailable."""
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                exchange = self._topology.control
                await self._submitter.publish(cancellation(job_id), "", exchange=exchange, mandatory=False)
        except (BrokerError, TimeoutError) as error:
            raise Unavailable(f"the broker cannot be reached ({error}); cancel again later") from None

    def cancel_if_possible(self, job_id: str) -> None:
        """As ``cancel``, without waiting, and if the broker is there."""
        self._submitter.publish_and_forget(cancellation(job_id), self._topology.control)

    async def status(self) -> ServiceStatus:
        """How the service is, and what requests may name. Raises Unavailable."""
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                return await self._submitter.query_status(self._topology, offer=True)
        except (BrokerError, TimeoutError) as error:
            raise Unavailable(f"the broker cannot be reached ({error}); try again later") from None

    async def close(self) -> None:
        await self._listener.close()
        await self._submitter.close()
