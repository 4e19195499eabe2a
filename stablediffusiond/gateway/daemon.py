"""The life of the gateway: open the store, listen, read its own queue, and end without losing a picture."""

import asyncio
import logging
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from stablediffusiond.gateway.access import Access
from stablediffusiond.gateway.app import make_app
from stablediffusiond.gateway.context import Context
from stablediffusiond.gateway.http_server import HttpServer
from stablediffusiond.gateway.job_view import job_view
from stablediffusiond.gateway.jobs import Jobs, sweep
from stablediffusiond.gateway.links import Links
from stablediffusiond.gateway.queue_client import QueueClient
from stablediffusiond.gateway.replies import Replies
from stablediffusiond.gateway.store.folder import StoreFolder
from stablediffusiond.gateway.store.identity import Identity, take
from stablediffusiond.gateway.store.records import now
from stablediffusiond.gateway.submission import Submission
from stablediffusiond.gateway.webhooks import Webhooks
from stablediffusiond.service import Reload, feed_watchdog, first_of, notify, run, stop_signal
from stablediffusiond.settings import GatewaySettings, Settings

log = logging.getLogger(__name__)

_SWEEP_SECONDS: Final = 60.0
_THREADS: Final = 16


async def serve(settings: Settings, reload: Reload) -> None:
    """Take jobs over HTTP, as OpenAI's, A1111's or requests of our own, and keep their pictures."""
    # What waits for a disk must not hold up what only reads.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_THREADS, "gateway"))
    held = take(settings.gateway.store)
    try:
        context = await _open(settings)
        async with stop_signal() as stop, reload.on_hangup():
            await _serve(context, stop, reload)
    finally:
        os.close(held)


async def _open(settings: Settings) -> Context:
    gateway = settings.gateway
    identity = Identity.of(gateway.store, settings.queues.results)
    jobs = Jobs(StoreFolder(gateway.store))
    await jobs.load()
    replies = Replies(jobs)
    queue = QueueClient(settings, identity.queue, replies)
    return Context(
        settings=gateway,
        access=Access(gateway),
        jobs=jobs,
        replies=replies,
        queue=queue,
        submission=Submission(jobs, queue, gateway.max_jobs),
        links=Links(identity.secret, gateway.url_seconds),
    )


async def _serve(context: Context, stop: asyncio.Event, reload: Reload) -> None:
    server = HttpServer(make_app(context), context.settings, asks_for_token=context.access.asks_for_token)
    for address in await server.open():
        log.info("listening on %s", address)

    def apply(changed: Settings) -> None:
        context.settings = changed.gateway
        context.submission.max_jobs = changed.gateway.max_jobs

    reload.apply = apply
    parts = [
        asyncio.create_task(context.queue.run(), name="queue"),
        asyncio.create_task(_sweep(context), name="sweep"),
        asyncio.create_task(_webhooks(context).run(), name="webhooks"),
    ]
    # Ready without the broker too: those who come are told that it is away.
    notify(READY=1, STATUS="takes jobs")
    watchdog = asyncio.create_task(feed_watchdog(lambda: server.is_serving), name="watchdog")
    try:
        await first_of(stop.wait(), context.replies.broken, *parts, *([server.task] if server.task is not None else []))
        notify(STOPPING=1)
    finally:
        watchdog.cancel()
        context.jobs.close()
        await server.close()
        for part in parts:
            part.cancel()
        await asyncio.wait(parts)
        await context.queue.close()


def _webhooks(context: Context) -> Webhooks:
    secret = context.settings.webhook_secret
    base = context.settings.public_url or ""
    return Webhooks(
        context.jobs, secret.get_secret_value() if secret is not None else "", lambda job: job_view(context, base, job)
    )


async def _sweep(context: Context) -> None:
    """Make room, now and then."""
    while True:
        limits: GatewaySettings = context.settings
        if deleted := await sweep(context.jobs, now(), limits.keep_days, limits.keep_bytes):
            log.info("%d jobs are not kept any longer", deleted)
        await asyncio.sleep(_SWEEP_SECONDS)


def main(arguments: list[str] | None = None) -> int:
    return run("stablediffusion_gateway", arguments, serve)


if __name__ == "__main__":
    sys.exit(main())
