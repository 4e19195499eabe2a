"""The life of the request daemon: connect, load, take jobs, and end without losing one.

The main thread is an asyncio loop with both broker connections, so that heartbeats go on through jobs of any length;
one engine thread owns the device; a few threads make PNGs.
"""

import asyncio
import logging
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from stablediffusiond.broker.link import Link
from stablediffusiond.broker.topology import Topology, declare
from stablediffusiond.engine.catalogue import Catalogue
from stablediffusiond.engine.loaded_models import LoadedModels
from stablediffusiond.engine.malloc import have_one_heap
from stablediffusiond.metrics import served
from stablediffusiond.requestd.loading import extend_start_timeout, leave, loaded_unless
from stablediffusiond.requestd.model_loader import ModelLoader
from stablediffusiond.requestd.model_loader import open_model as _import_and_load
from stablediffusiond.requestd.wiring import Daemon
from stablediffusiond.service import Reload, feed_watchdog, first_of, notify, run, stop_signal
from stablediffusiond.settings import Settings

log = logging.getLogger(__name__)


async def serve(settings: Settings, reload: Reload) -> None:
    """Draw what the request queue asks for, images of different jobs side by side, and publish the pictures."""
    topology = Topology(settings.queues.requests, settings.queues.results)
    prepare = partial(declare, topology=topology)
    async with (
        stop_signal() as stop,
        reload.on_hangup(),
        Link(settings.broker, "stablediffusiond takes jobs", prepare) as consume_link,
        Link(settings.broker, "stablediffusiond replies") as publish_link,
        served(settings.metrics, "port") as metrics,
    ):
        have_one_heap()
        device = ThreadPoolExecutor(1, thread_name_prefix="engine")
        loader = ModelLoader(settings, Catalogue(settings), _import_and_load)
        loading = asyncio.create_task(loader.load_default(device), name="loading")
        extending = asyncio.create_task(extend_start_timeout(loading), name="asking for extending")
        loaded = await loaded_unless(stop, loading, extending)
        if loaded is None:
            return
        models = LoadedModels(loader.catalogue.default, loaded)
        daemon = Daemon(
            settings, topology, loaded=models, loader=loader, consume_link=consume_link, publish_link=publish_link
        )
        publish_link.on_change = daemon.on_change
        metrics.collect = daemon.metrics
        drawing = asyncio.get_running_loop().run_in_executor(device, daemon.engine.run)
        taking = asyncio.create_task(daemon.consumer.run(), name="taking jobs")
        ready = asyncio.create_task(_serve_ready(daemon, settings, extending, reload), name="ready")
        parts = (consume_link.task, publish_link.task, drawing, ready, daemon.processor.broken, daemon.crashed.broken)
        try:
            await first_of(stop.wait(), taking, *parts)
            notify(STOPPING=1)
            taking.cancel()
            await first_of(daemon.drain(), *parts)
        finally:
            taking.cancel()
            ready.cancel()
            daemon.engine.stop()


async def _serve_ready(daemon: Daemon, settings: Settings, extending: asyncio.Task[None], reload: Reload) -> None:
    """Tell systemd that jobs are being taken, and from then on that the engine gets on with them."""
    await daemon.consumer.consuming.wait()
    extending.cancel()
    log.info("taking jobs from %s, %d images at a time", settings.queues.requests, daemon.loaded.capacity.images)
    notify(READY=1)
    reload.apply = daemon.reload
    daemon.on_change()
    async with asyncio.TaskGroup() as saying:
        saying.create_task(daemon.keep_status(), name="status")
        saying.create_task(feed_watchdog(lambda: daemon.engine.healthy), name="watchdog")


def main(arguments: list[str] | None = None) -> int:
    return leave(run("stablediffusiond", arguments, serve))


if __name__ == "__main__":
    sys.exit(main())
