"""From a body to a job that the broker has: kept in the store first, then published, then confirmed.

What is repeated (by its id, or by an ``Idempotency-Key``, which the id follows from) is the same job: it is published
again only if it is not known that the broker has it, and under the same id, by which request daemons and readers know
a repeat.
"""

import asyncio
import contextlib
import hashlib
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from stablediffusiond.errors import InvalidRequest, StableDiffusiondError
from stablediffusiond.gateway.access import Client
from stablediffusiond.gateway.errors import Conflict, StoreUnavailable, TooManyJobs
from stablediffusiond.gateway.jobs import Job, Jobs
from stablediffusiond.gateway.queue_client import InDoubt, QueueClient
from stablediffusiond.gateway.store.records import ID, Interface, JobRecord, now
from stablediffusiond.messages.drawn_request import hash_of
from stablediffusiond.messages.picture_use import GUIDES
from stablediffusiond.messages.request import Request
from stablediffusiond.messages.seeds import LARGEST_SAFE_NUMBER
from stablediffusiond.messages.values import Body

#: A name space of our own, for ids that follow from keys (RFC 9562).
_KEYS: Final = uuid.UUID("5f0f7c7e-6d0b-4c2b-9b52-1c8b3f1f3b6a")
_LONGEST_KEY: Final = 200


@dataclass(frozen=True)
class Asking:
    """Who asks, by which interface, with which bytes."""

    client: Client
    interface: Interface
    body: bytes
    key: str | None = None  #: of the header ``Idempotency-Key``
    webhook: str | None = None  #: where the end of the job is posted


@dataclass(frozen=True)
class _Prepared:
    request: Request
    record: JobRecord
    is_named: bool  #: who asks can ask for the same job again


class Submission:
    def __init__(self, jobs: Jobs, queue: QueueClient, max_jobs: int) -> None:
        self.max_jobs = max_jobs
        self._jobs = jobs
        self._queue = queue
        self._under_way: dict[str, asyncio.Task[Job]] = {}

    async def submit(self, fields: Body, asking: Asking) -> Job:
        """The job that ``fields`` ask for, in any spelling; when it returns, the broker has it.

        Raises:
            InvalidRequest, TooLarge: it cannot be drawn.
            Conflict: the id or key stands for another job.
            TooManyJobs, Unavailable: not now.
        """
        return await self._submit(await asyncio.to_thread(_prepare, fields, asking), asking)

    async def submit_all(self, several: Sequence[tuple[Body, Asking]]) -> list[Job]:
        """As ``submit``, for each. None is taken if one cannot be drawn, or, as far as that can be known, taken."""
        prepared = [await asyncio.to_thread(_prepare, fields, asking) for fields, asking in several]
        if several and len(self._jobs.under_way(several[0][1].client.name)) + len(several) > self.max_jobs:
            raise TooManyJobs(f"with these, more than {self.max_jobs} jobs of yours would be under way; send fewer")
        nameless = {each.record.id for each in prepared if not each.is_named}
        pairs = zip(prepared, several, strict=True)
        ends = await asyncio.gather(
            *(self._submit(each, asking) for each, (_, asking) in pairs), return_exceptions=True
        )
        jobs = [end for end in ends if isinstance(end, Job)]
        for error in ends:
            if isinstance(error, BaseException):
                for job in jobs:
                    if job.id in nameless:
                        self._queue.cancel_if_possible(job.id)
                raise error
        return jobs

    async def _submit(self, prepared: _Prepared, asking: Asking) -> Job:
        job_id = prepared.record.id
        task = self._under_way.get(job_id)
        if task is None:
            task = asyncio.create_task(self._take(prepared), name=f"submission of {job_id}")
            self._under_way[job_id] = task
            task.add_done_callback(lambda done: self._done(job_id, done))
        job = await asyncio.shield(task)
        if (job.record.owner, job.record.fingerprint) != (asking.client.name, prepared.record.fingerprint):
            raise Conflict("this id, or Idempotency-Key, stands for another job already; choose another")
        return job

    def _done(self, job_id: str, task: asyncio.Task[Job]) -> None:
        self._under_way.pop(job_id, None)
        if not task.cancelled():
            task.exception()  # who asked may have left

    async def _take(self, prepared: _Prepared) -> Job:
        record = prepared.record
        job = await self._jobs.get(record.id)
        if job is None:
            if len(self._jobs.under_way(record.owner)) >= self.max_jobs:
                raise TooManyJobs(f"{self.max_jobs} jobs of yours are under way; wait for one, or cancel it")
            job = await self._keep(record)
            return await self._publish(job, prepared)
        if job.record.fingerprint != record.fingerprint:
            return job
        return job if job.is_published else await self._publish(job, prepared)

    async def _keep(self, record: JobRecord) -> Job:
        try:
            return await self._jobs.open(record)
        except FileExistsError:
            raise Conflict("the store has something unreadable by this id; choose another") from None

    async def _publish(self, job: Job, prepared: _Prepared) -> Job:
        """While the disk takes what was asked for: who asked is told when both are done."""
        syncing = asyncio.create_task(self._jobs.sync(job))
        try:
            await self._queue.publish(prepared.request)
            await syncing
        except StoreUnavailable:
            self._queue.cancel_if_possible(job.id)
            await self._jobs.delete(job.id)
            raise
        except InDoubt:
            if not prepared.is_named:  # nobody will ask for it again
                self._queue.cancel_if_possible(job.id)
                await self._jobs.delete(job.id)
            raise
        except StableDiffusiondError:
            await asyncio.wait({syncing})
            await self._jobs.delete(job.id)
            raise
        finally:
            syncing.add_done_callback(_look_at)
        with contextlib.suppress(StoreUnavailable, FileNotFoundError):  # then a repeat publishes it once more
            await self._jobs.mark_published(job)
        return job


def _look_at(task: asyncio.Task[None]) -> None:
    """Otherwise asyncio logs an error that was never retrieved."""
    if not task.cancelled():
        task.exception()


def _prepare(fields: Body, asking: Asking) -> _Prepared:
    """In a thread: there may be megabytes of pictures in it. Raises InvalidRequest."""
    named = fields.get("id")
    if asking.key is not None:
        if named is not None:
            raise InvalidRequest("send an 'id' or an Idempotency-Key, not both", field="id")
        if not 0 < len(asking.key) <= _LONGEST_KEY:
            raise InvalidRequest(f"an Idempotency-Key has 1 to {_LONGEST_KEY} characters")
        default_id = str(uuid.uuid5(_KEYS, f"{asking.client.name}\n{asking.key}"))
    else:
        default_id = str(uuid.uuid4())
    request, warnings = Request.from_fields(fields, default_id=default_id)
    if not ID.fullmatch(request.id):
        raise InvalidRequest("over HTTP, 'id' has letters, digits, and . _ - after the first", field="id")
    record = JobRecord(
        id=request.id,
        owner=asking.client.name,
        interface=asking.interface,
        created_at=now(),
        fingerprint=hashlib.sha256(asking.body).hexdigest(),
        request=_without_pictures(request),
        count=request.count,
        warnings=warnings,
        webhook=asking.webhook,
    )
    return _Prepared(request, record, is_named=named is not None or asking.key is not None)


def _without_pictures(request: Request) -> dict[str, Any]:
    """What was asked for, with hashes in place of pictures; the files of what is drawn say it in the same way."""
    fields: dict[str, Any] = request.model_dump(
        mode="json", exclude_defaults=True, exclude={"id", "image", "mask", *GUIDES}
    )
    fields |= {name: _exact(fields[name]) for name in ("subseed",) if name in fields}
    fields |= {"seed": _exact(request.seed)}
    for name in ("image", "mask"):
        if (picture := getattr(request, name)) is not None:
            fields[name] = hash_of(picture)
    for name in GUIDES:
        if uses := getattr(request, name):
            fields[name] = [{**use.to_fields(), **_hashed(use.image)} for use in uses]
    return fields


def _exact(number: int) -> int | str:
    """As text where JavaScript would round it."""
    return number if number <= LARGEST_SAFE_NUMBER else str(number)


def _hashed(picture: bytes | None) -> dict[str, str]:
    return {} if picture is None else {"image": hash_of(picture)}
