"""The life of the gateway: open the store, listen, read its own queue, and end without losing a picture."""

import asyncio
import contextlib
import logging
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from stablediffusiond.errors import SettingsError
from stablediffusiond.gateway.access import Access
from stablediffusiond.gateway.app import make_app
from stablediffusiond.gateway.context import Context
from stablediffusiond.gateway.errors import StoreRefused, StoreUnavailable
from stablediffusiond.gateway.front import Front
from stablediffusiond.gateway.http_server import HttpServer
from stablediffusiond.gateway.job_view import job_view
from stablediffusiond.gateway.jobs import Jobs, sweep
from stablediffusiond.gateway.links import Links
from stablediffusiond.gateway.queue_client import QueueClient
from stablediffusiond.gateway.replies import Replies
from stablediffusiond.gateway.store.files import Files
from stablediffusiond.gateway.store.identity import Identity
from stablediffusiond.gateway.store.job_store import JobStore
from stablediffusiond.gateway.store.opening import files_of
from stablediffusiond.gateway.store.records import now
from stablediffusiond.gateway.submission import Submission
from stablediffusiond.gateway.webhooks import Webhooks
from stablediffusiond.service import Reload, feed_watchdog, first_of, notify, run, stop_signal
from stablediffusiond.settings import GatewaySettings, Settings

log = logging.getLogger(__name__)

_SWEEP_SECONDS: Final = 60.0
_THREADS: Final = 16
#: Between two tries to open the store.
_PAUSE_SECONDS: Final = (0.5, 15.0)


async def serve(settings: Settings, reload: Reload) -> None:
    """Take jobs over HTTP, as OpenAI's, A1111's or requests of our own, and keep their pictures."""
    # What waits for a disk must not hold up what only reads.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_THREADS, "gateway"))
    files = files_of(settings.gateway.store)
    access = Access(settings.gateway)
    front = Front()
    server = HttpServer(front, settings.gateway, asks_for_token=access.asks_for_token)
    watchdog = asyncio.create_task(feed_watchdog(lambda: server.is_serving), name="watchdog")
    async with stop_signal() as stop, reload.on_hangup():
        opening = asyncio.create_task(_open(settings, access, files), name="store")
        try:
            for address in await server.open():
                log.info("listening on %s", address)
            stopped = asyncio.create_task(stop.wait())
            await asyncio.wait({opening, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if not stop.is_set():
                await _serve(opening.result(), server, front, stop, reload)
        finally:
            watchdog.cancel()
            opening.cancel()
            await server.close()
            await files.close()


async def _open(settings: Settings, access: Access, files: Files) -> Context:
    """However long it takes, until there is a store. Raises SettingsError."""
    pause_seconds, longest_seconds = _PAUSE_SECONDS
    is_known = False
    while True:
        try:
            await files.open()
            return await _load(settings, access, files)
        except StoreRefused as error:
            raise SettingsError(f"settings: [gateway] store: {settings.gateway.store}: {error.reason}") from None
        except StoreUnavailable as error:
            if not is_known:
                log.error("the store cannot be opened: %s; trying on", error.reason)  # noqa: TRY400 (for operators, without a traceback)
                # Who comes is told so.
                notify(READY=1, STATUS="waits for the store")
                is_known = True
        await asyncio.sleep(pause_seconds)
        pause_seconds = min(pause_seconds * 2, longest_seconds)


async def _load(settings: Settings, access: Access, files: Files) -> Context:
    gateway = settings.gateway
    identity = await Identity.of(files, settings.queues.results)
    jobs = Jobs(JobStore(files))
    await jobs.load()
    replies = Replies(jobs)
    queue = QueueClient(settings, identity.queue, replies)
    return Context(
        settings=gateway,
        access=access,
        jobs=jobs,
        replies=replies,
        queue=queue,
        submission=Submission(jobs, queue, gateway.max_jobs),
        links=Links(identity.secret, gateway.url_seconds),
    )


async def _serve(context: Context, server: HttpServer, front: Front, stop: asyncio.Event, reload: Reload) -> None:
    def apply(changed: Settings) -> None:
        context.settings = changed.gateway
        context.submission.max_jobs = changed.gateway.max_jobs

    reload.apply = apply
    parts = [
        asyncio.create_task(context.queue.run(), name="queue"),
        asyncio.create_task(_sweep(context), name="sweep"),
        asyncio.create_task(_webhooks(context).run(), name="webhooks"),
    ]
    front.open(make_app(context))
    # Ready without the broker too: those who come are told that it is away.
    notify(READY=1, STATUS="takes jobs")
    try:
        await first_of(stop.wait(), context.replies.broken, *parts, *([server.task] if server.task is not None else []))
        notify(STOPPING=1)
    finally:
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
        with contextlib.suppress(StoreUnavailable):  # next time, then
            if deleted := await sweep(context.jobs, now(), limits.keep_days, limits.keep_bytes):
                log.info("%d jobs are not kept any longer", deleted)
        await asyncio.sleep(_SWEEP_SECONDS)


def main(arguments: list[str] | None = None) -> int:
    return run("stablediffusion_gateway", arguments, serve)


if __name__ == "__main__":
    sys.exit(main())
