"""The life of the response daemon: listen, stay connected to the broker, and end without losing a reply."""

import asyncio
import logging
import sys
from functools import partial

from stablediffusiond.broker.link import Link
from stablediffusiond.broker.publisher import Publisher
from stablediffusiond.broker.topology import Topology, declare
from stablediffusiond.metrics import served
from stablediffusiond.responsed.metrics import ResponseMetrics
from stablediffusiond.responsed.server import Server
from stablediffusiond.service import Reload, feed_watchdog, first_of, notify, run, stop_signal
from stablediffusiond.settings import Settings

log = logging.getLogger(__name__)


async def serve(settings: Settings, reload: Reload) -> None:
    """Stream results from the queues to clients of a socket, one JSON object a line."""
    topology = Topology(settings.queues.requests, settings.queues.results)
    async with (
        stop_signal() as stop,
        reload.on_hangup(),
        Link(settings.broker, "stablediffusion_responsed reads", partial(declare, topology=topology)) as consume_link,
        Link(settings.broker, "stablediffusion_responsed cancels") as publish_link,
        served(settings.metrics, "responses_port") as metrics,
    ):
        server = Server(settings.responses, topology, consume_link, Publisher(publish_link))
        for address in await server.open():
            log.info("listening on %s", address)

        def report_status() -> None:
            trouble = f"; {consume_link.trouble}" if consume_link.trouble else ""
            notify(STATUS=f"{server.clients} clients{trouble}")

        server.on_change = consume_link.on_change = report_status
        metrics.collect = ResponseMetrics(server, consume_link, publish_link)
        reload.apply = lambda changed: server.apply_limits(changed.responses)
        # Ready without the broker too: a boot must not wait for it, and clients may.
        notify(READY=1)
        report_status()
        # All the work is this loop's: that it comes to feed the watchdog shows that the work goes on.
        watchdog = asyncio.create_task(feed_watchdog(lambda: server.listening), name="watchdog")
        try:
            await first_of(stop.wait(), consume_link.task, publish_link.task, server.broken)
            notify(STOPPING=1)
        finally:
            watchdog.cancel()
            await server.close()


def main(arguments: list[str] | None = None) -> int:
    return run("stablediffusion_responsed", arguments, serve)


if __name__ == "__main__":
    sys.exit(main())
