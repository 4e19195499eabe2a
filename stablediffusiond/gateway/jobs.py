"""The jobs that this gateway knows: what of them is in the store, how far those are that are under way, who waits."""

import asyncio
import contextlib
import weakref
from collections import OrderedDict
from datetime import datetime, timedelta
from typing import Final

from stablediffusiond.client.events import Image, Preview
from stablediffusiond.gateway.errors import StoreUnavailable
from stablediffusiond.gateway.job_index import JobIndex
from stablediffusiond.gateway.store.job_store import Entry, JobStore, StoredJob
from stablediffusiond.gateway.store.records import JobRecord
from stablediffusiond.messages.replies import Done, Failed, Progress

#: Jobs that have ended and are kept in memory: those that were asked for last.
_REMEMBERED: Final = 256


class Job:
    """One job, as far as it has come."""

    def __init__(self, stored: StoredJob) -> None:
        self.record = stored.record
        self.is_published = stored.is_published
        self.images = stored.images
        self.end = stored.end
        #: Lost with the process: the newest of each.
        self.progress: Progress | None = None
        self.previews: dict[int, Preview] = {}
        self._changed = asyncio.Event()
        self._closing = False

    @property
    def id(self) -> str:
        return self.record.id

    @property
    def has_ended(self) -> bool:
        """``done`` may come before the last picture, after a connection has broken."""
        return self.end is not None and (isinstance(self.end, Failed) or len(self.images) >= self.end.images)

    @property
    def changed(self) -> asyncio.Event:
        """Set with the next change, and never cleared: then there is another one. Take it before looking."""
        return self._changed

    async def until_ended(self) -> None:
        """Also when the gateway stops."""
        while not self.has_ended and not self._closing:
            await self._changed.wait()

    def close(self) -> None:
        """Nobody need wait any more."""
        self._closing = True
        self.announce()

    def announce(self) -> None:
        """Wake all who wait for a change."""
        self._changed.set()
        self._changed = asyncio.Event()


class Jobs:
    """Those in ``store``; what needs it may raise StoreUnavailable."""

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self.file = store.file
        self.index = JobIndex()
        self._under_way: dict[str, Job] = {}
        self._recent: OrderedDict[str, Job] = OrderedDict()
        #: Two who ask for one job have to get the same object, to hear of the same changes.
        self._known: weakref.WeakValueDictionary[str, Job] = weakref.WeakValueDictionary()
        self._loading: dict[str, asyncio.Lock] = {}
        self.is_closing = False
        #: Jobs that have ended and have a webhook.
        self.due: asyncio.Queue[str] = asyncio.Queue()

    async def load(self) -> None:
        """Find what is in the store."""
        self.index = JobIndex(await self._store.entries())
        for job_id in self.index.without_end():
            await self.get(job_id)
        for job_id in self.index.due():
            self.due.put_nowait(job_id)

    async def get(self, job_id: str) -> Job | None:
        """The job, if there is one."""
        if job_id not in self.index:
            return None
        async with self._loading.setdefault(job_id, asyncio.Lock()):
            if (job := self._known.get(job_id)) is None:
                stored = await self._store.load(job_id)
                job = None if stored is None else Job(stored)
        self._loading.pop(job_id, None)
        if job is not None and job_id in self.index:
            self._remember(job)
        return job

    async def open(self, record: JobRecord) -> Job:
        """Keep what was asked for, until a power cut; from now on replies are expected. Raises FileExistsError."""
        await self._store.create(record)
        self.index.add(Entry(record.id, record.owner, record.created_at, 0, has_end=False))
        job = Job(StoredJob(record))
        self._remember(job)
        return job

    async def sync(self, job: Job) -> None:
        """Keep for good what was asked for."""
        await self._store.sync_created(job.id)

    async def mark_published(self, job: Job) -> None:
        job.is_published = True
        await self._store.mark_published(job.id)

    async def mark_notified(self, job: Job) -> None:
        """Its webhook was taken, or never will be."""
        with contextlib.suppress(StoreUnavailable, FileNotFoundError):  # then it comes once more
            await self._store.mark_notified(job.id)

    async def add_image(self, image: Image) -> None:
        """Keep a picture for good; one of a job that is not kept is left alone. Who waits is told before that."""
        job = await self.get(image.id)
        if job is None:
            return
        index = image.facts.index
        try:
            if (stored := job.images.get(index)) is None:
                stored = await self._store.add_image(image.facts, image.content_type, image.data)
                self.index[job.id].bytes += stored.bytes
                job.images[index] = stored
                job.previews.pop(index, None)
                self._changed(job)
            await self._store.sync_image(job.id, stored)
        except (FileNotFoundError, KeyError):  # deleted meanwhile, by us or by who has tidied up in the store
            await self.delete(job.id)
        except StoreUnavailable:
            job.images.pop(index, None)
            raise

    async def add_end(self, end: Done | Failed) -> None:
        """As ``add_image``, for the last reply."""
        job = await self.get(end.id)
        if job is None:
            return
        try:
            if job.end is None:
                await self._store.add_end(end)
                self.index[job.id].has_end = True
                job.end = end
                self._changed(job)
            await self._store.sync_end(job.id)
        except (FileNotFoundError, KeyError):
            await self.delete(job.id)
        except StoreUnavailable:
            job.end = None
            raise

    def show(self, event: Progress | Preview) -> None:
        """How far a job is, or what it looks like; of no use once it has ended."""
        if (job := self._under_way.get(event.id)) is None:
            return
        if isinstance(event, Progress):
            job.progress = event
        elif event.facts.index not in job.images:
            job.previews[event.facts.index] = event
        job.announce()

    def close(self) -> None:
        """Wake all who wait: the gateway stops."""
        self.is_closing = True
        for job in list(self._known.values()):
            job.close()

    async def delete(self, job_id: str) -> None:
        """Forget a job, and delete what is kept of it."""
        self._forget(job_id)
        await self._store.delete(job_id)

    def under_way(self, owner: str | None = None) -> list[Job]:
        """Those that have not ended, the oldest first; only those of ``owner``, if given."""
        return [job for job in self._under_way.values() if owner is None or job.record.owner == owner]

    def _remember(self, job: Job) -> None:
        self._known[job.id] = job
        if not job.has_ended:
            self._under_way[job.id] = job
            return
        self._recent[job.id] = job
        self._recent.move_to_end(job.id)
        if len(self._recent) > _REMEMBERED:
            self._recent.popitem(last=False)

    def _forget(self, job_id: str) -> None:
        self.index.discard(job_id)
        self._under_way.pop(job_id, None)
        self._recent.pop(job_id, None)
        self._known.pop(job_id, None)

    def _changed(self, job: Job) -> None:
        if job.has_ended:
            job.progress = None
            job.previews.clear()
            self._under_way.pop(job.id, None)
            self._remember(job)
            if job.record.webhook is not None:
                self.due.put_nowait(job.id)
        job.announce()


async def sweep(jobs: Jobs, now: datetime, keep_days: float, keep_bytes: int) -> int:
    """Delete what need not be kept any longer; returns how many jobs that was."""
    found = jobs.index.too_old_or_too_much(now - timedelta(days=keep_days), keep_bytes)
    for job_id in found:
        await jobs.delete(job_id)
    return len(found)
