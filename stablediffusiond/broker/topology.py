"""The queues and exchanges: their names, their arguments, who they dead-letter to. Declared from here and nowhere else.

Arguments are frozen once a queue exists (a second declaration with others is refused with 406), so there are only
those that the protocol needs; limits and expiry that an operator may want belong in a RabbitMQ policy.
"""

import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from stablediffusiond.broker.channel import Depth
from stablediffusiond.broker.connection import Connection
from stablediffusiond.errors import BrokerRefused, QueueMismatch, QueueMissing
from stablediffusiond.messages.names import file_name, name_key
from stablediffusiond.messages.request import Priority

log = logging.getLogger(__name__)

#: A job may be delivered once more than this before it counts as one that kills daemons.
REQUEST_DELIVERY_LIMIT: Final = 3
#: Never 0 or -1: on RabbitMQ 3.10 the first requeue would drop the message.
RESULTS_DELIVERY_LIMIT: Final = 1000
RESULTS_EXPIRE_SECONDS: Final = 7 * 24 * 3600

PRIORITIES: Final[tuple[Priority, ...]] = ("high", "normal", "low")
_LONGEST_NAME_BYTES: Final = 255  #: of a queue, and of a routing key
_QUORUM: Final[Mapping[str, str | int]] = {"x-queue-type": "quorum"}


@dataclass(frozen=True)
class Queue:
    """A durable queue: what it is declared with."""

    name: str
    arguments: Mapping[str, str | int] = field(default_factory=lambda: _QUORUM)


@dataclass(frozen=True)
class RequestQueue:
    """A queue that jobs are taken from."""

    name: str
    priority: Priority
    model: str | None = None  #: what its jobs are drawn with; None: whatever they say, else the default model


@dataclass(frozen=True)
class Topology:
    """Every name, derived from the two that settings give."""

    requests: str = "stablediffusiond"
    results: str = "results"

    @property
    def crashed(self) -> str:
        """Where the broker puts jobs that were delivered too often."""
        return f"{self.requests}.crashed"

    @property
    def dead(self) -> str:
        """Where jobs are kept that an operator should see."""
        return f"{self.requests}.dead"

    @property
    def unroutable(self) -> str:
        """Where replies are kept that no queue would take."""
        return f"{self.requests}.unroutable"

    @property
    def control(self) -> str:
        """The fanout exchange of the control messages for all request daemons: cancel a job, report the status."""
        return f"{self.requests}.control"

    @property
    def events(self) -> str:
        """The topic exchange of progress; the routing key is the reply queue's name."""
        return f"{self.requests}.events"

    @property
    def serving(self) -> str:
        """The direct exchange to which each request daemon binds a private queue, by the keys of its models.

        Whoever publishes to it learns whether there is one: if not, the message comes back.
        """
        return f"{self.requests}.serving"

    @staticmethod
    def serving_key(model: str) -> str:
        """The routing key of ``model`` there; empty if it is too long for one."""
        key = name_key(model)
        return key if len(key.encode()) <= _LONGEST_NAME_BYTES else ""

    @staticmethod
    def previews_of(reply_to: str) -> str | None:
        """The routing key, on the exchange of events, of what its listener alone has asked for; none if too long."""
        key = f"preview.{reply_to}"
        return key if len(key.encode()) <= _LONGEST_NAME_BYTES else None

    def request_queue(self, priority: Priority, model: str | None = None) -> str:
        """The queue of ``model``; without one, the plain queue, which is everybody's."""
        of = self.requests if model is None else f"{self.requests}@{file_name(model)}"
        return of if priority == "normal" else f"{of}.{priority}"

    def request_queues(self, model: str | None = None) -> list[RequestQueue]:
        """The plain ones, or those of ``model``, the highest priority first."""
        return [RequestQueue(self.request_queue(priority, model), priority, model) for priority in PRIORITIES]

    def has_queues(self, model: str) -> bool:
        """Whether ``model`` may have queues of its own, which nobody takes for another model's."""
        key = file_name(model)
        ambiguous = key.endswith((".high", ".low"))
        return bool(key) and not ambiguous and len(self.request_queue("high", model).encode()) <= _LONGEST_NAME_BYTES

    def queues(self) -> list[Queue]:
        """Every queue with a fixed name."""
        return [
            Queue(self.crashed),
            Queue(self.dead),
            Queue(self.unroutable),
            *map(self.declared, self.request_queues()),
            Queue(self.results, self._results()),
        ]

    def declared(self, queue: RequestQueue) -> Queue:
        """``queue`` with its arguments."""
        arguments = {
            **_QUORUM,
            "x-delivery-limit": REQUEST_DELIVERY_LIMIT,
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": self.crashed,
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
        }
        return Queue(queue.name, arguments)

    def results_queue(self, name: str) -> Queue:
        """The queue that a client listens to; one of its own ends after seven days without a reader."""
        if name == self.results:
            return Queue(name, self._results())
        return Queue(name, {**self._results(), "x-expires": RESULTS_EXPIRE_SECONDS * 1000})

    def is_results_queue(self, name: str) -> bool:
        """Whether a client may listen to ``name``: ``results`` or ``results.<something>``."""
        own = re.escape(self.results)
        return re.fullmatch(rf"{own}(\.[A-Za-z0-9._-]+)?", name) is not None and len(name) <= _LONGEST_NAME_BYTES

    def may_reply_to(self, name: str) -> bool:
        """Whether replies may go to ``name``: not into our own machinery, where they would be taken for requests."""
        return bool(name) and not name.startswith(self.requests)

    def _results(self) -> dict[str, str | int]:
        return {
            **_QUORUM,
            "x-delivery-limit": RESULTS_DELIVERY_LIMIT,
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": self.unroutable,
        }


async def declare(connection: Connection, topology: Topology) -> None:
    """Declare everything that has a fixed name.

    Raises:
        BrokerError: the broker is gone, or refuses a queue that does not exist yet.
    """
    await declare_queues(connection, topology.queues())
    channel = await connection.channel()
    try:
        await channel.declare_exchange(topology.control, "fanout")
        await channel.declare_exchange(topology.events, "topic")
        await channel.declare_exchange(topology.serving, "direct")
    except (QueueMismatch, BrokerRefused) as error:
        log.warning("exchanges are used as they are: %s", error)
        return
    await channel.close()


async def declare_queues(connection: Connection, queues: Iterable[Queue]) -> None:
    """Declare ``queues``; one that exists with other arguments, or that we may not declare, is used as it is."""
    channel = await connection.channel()
    for queue in queues:
        try:
            await channel.declare_queue(queue.name, queue.arguments)
        except (QueueMismatch, BrokerRefused) as error:
            channel = await connection.channel()  # the refusal has closed the old one
            await channel.check_queue(queue.name)
            log.warning("queue %s is used as it is: %s", queue.name, error)
    await channel.close()


async def depths(connection: Connection, names: Iterable[str]) -> dict[str, Depth]:
    """How full each queue is; those that are not there, or that we may not look at, are left out.

    Raises:
        BrokerLost: the connection is gone.
    """
    found: dict[str, Depth] = {}
    channel = await connection.channel()
    for name in names:
        try:
            found[name] = await channel.depth(name)
        except (QueueMissing, BrokerRefused) as error:
            log.debug("queue %s: %s", name, error)
            channel = await connection.channel()  # the refusal has closed the old one
    await channel.close()
    return found
