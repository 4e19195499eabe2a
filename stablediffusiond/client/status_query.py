"""The status of the service: the broker counts its queues, and each request daemon answers for itself.

Every daemon that is connected reads the queue of crashed jobs, so the broker knows how many there are to wait for. The
answers come without a queue (direct reply-to), so an ordinary client needs no right to make one.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from typing import Final

from pydantic import ValidationError

from stablediffusiond.broker.channel import Depth
from stablediffusiond.broker.connection import Connection
from stablediffusiond.broker.consuming_channel import DIRECT_REPLY_TO
from stablediffusiond.broker.message import Message
from stablediffusiond.broker.topology import PRIORITIES, Topology, depths
from stablediffusiond.messages.status import Ask, QueueRole, QueueStatus, ServiceStatus, WorkerStatus

log = logging.getLogger(__name__)

#: Who has not answered by then hangs, or is far away.
_ANSWER_SECONDS: Final = 2.0


async def query_status(connection: Connection, topology: Topology, *, offer: bool = False) -> ServiceStatus:
    """Ask the broker and all request daemons, and wait for a short time; with ``offer``, also what requests may name.

    Raises:
        BrokerError: the connection is gone.
    """
    names: dict[QueueRole, str] = {
        "high": topology.request_queue("high"),
        "normal": topology.request_queue("normal"),
        "low": topology.request_queue("low"),
        "results": topology.results,
        "crashed": topology.crashed,
        "dead": topology.dead,
        "unroutable": topology.unroutable,
    }
    found = await depths(connection, names.values())
    crashed = found.get(topology.crashed)
    connected = None if crashed is None else crashed.consumers
    workers = [] if connected == 0 else await _ask(connection, topology, connected, Ask(status=True, offer=offer))
    waiting = await _model_queues(connection, topology, workers)
    return ServiceStatus(
        queues={role: _queue(role, name, found.get(name), connected) for role, name in names.items()},
        model_queues=waiting,
        workers=workers,
        workers_connected=connected,
        publishes_blocked=not connection.accepting.is_set(),
    )


async def _model_queues(
    connection: Connection, topology: Topology, workers: Sequence[WorkerStatus]
) -> list[QueueStatus]:
    """Those in which jobs wait, of the models that some daemon draws with; its readers are the daemons that do."""
    readers = Counter(model for worker in workers for model in worker.served if topology.has_queues(model))
    queues = {queue.name: readers[model] for model in readers for queue in topology.request_queues(model)}
    if not queues or not connection.accepting.is_set():
        return []  # a connection that has published during an alarm is not read any more
    found = await depths(connection, queues)
    return [
        QueueStatus(name=name, messages=depth.messages, consumers=queues[name])
        for name, depth in sorted(found.items())
        if depth.messages
    ]


async def _ask(connection: Connection, topology: Topology, connected: int | None, ask: Ask) -> list[WorkerStatus]:
    """The answers of the request daemons, ``connected`` of them or as many as answer in time."""
    workers: list[WorkerStatus] = []
    answers: asyncio.Queue[Message | None] = asyncio.Queue()
    channel = await connection.channel()
    channel.lost.add_done_callback(lambda _: answers.put_nowait(None))  # no such exchange: no daemon was ever there
    await channel.consume_answers(answers.put_nowait)
    question = Message(
        ask.model_dump_json(exclude_defaults=True).encode(),
        content_type="application/json",
        reply_to=DIRECT_REPLY_TO,
        persistent=False,
    )
    channel.publish_and_forget(question, topology.control, "")
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            while connected is None or len(workers) < connected:
                if (answer := await answers.get()) is None:
                    break
                try:
                    workers.append(WorkerStatus.model_validate_json(answer.body))
                except ValidationError as error:
                    log.warning("a request daemon of another version answers: %s", error.errors(include_url=False)[0])
    except TimeoutError:
        log.debug("%d of %s request daemons have answered", len(workers), connected)
    await channel.close()
    return sorted(workers, key=lambda worker: (worker.host, worker.pid))


def _queue(role: QueueRole, name: str, depth: Depth | None, workers_connected: int | None) -> QueueStatus:
    """A request daemon has a consumer for each job that it draws, and none where it has no room for another."""
    if depth is None:
        return QueueStatus(name=name)
    consumers = workers_connected if role in PRIORITIES else depth.consumers
    return QueueStatus(name=name, messages=depth.messages, consumers=consumers)
