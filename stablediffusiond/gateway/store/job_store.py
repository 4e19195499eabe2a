"""The store: one folder for each job, one file for each thing that is kept of it.

    identity.json               the gateway's own queue, and the secret that signs addresses
    jobs/ID/job.json            what was asked for; before the job is published
    jobs/ID/published           the broker has confirmed that it has the job; empty
    jobs/ID/0.png, 0.json       a picture and its facts; before its reply is acked
    jobs/ID/end.json            ``done`` or ``failed``; before that is acked
    jobs/ID/notified            its webhook was taken; empty

``jobs.py`` has in memory what is asked for often. All of it may raise StoreUnavailable.
"""

import asyncio
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, TypeVar

from pydantic import ValidationError

from stablediffusiond import picture_formats
from stablediffusiond.gateway.store.files import Files, StoredFile
from stablediffusiond.gateway.store.records import ID, JobRecord, StoredImage, end_from_json, end_to_json
from stablediffusiond.messages.replies import Done, Failed, ImageFacts

log = logging.getLogger(__name__)

Read = TypeVar("Read")

_JOBS: Final = "jobs"
_JOB: Final = "job.json"
_PUBLISHED: Final = "published"
_END: Final = "end.json"
_NOTIFIED: Final = "notified"
_FACTS: Final = re.compile(r"[0-9]+\.json")
#: What is read at the start, of as many jobs at once.
_AT_ONCE: Final = 16


@dataclass
class StoredJob:
    """All that is kept of one job."""

    record: JobRecord
    is_published: bool = False
    images: dict[int, StoredImage] = field(default_factory=dict)
    end: Done | Failed | None = None


@dataclass
class Entry:
    """What has to be known of a job to find it, and to make room."""

    id: str
    owner: str
    created_at: datetime
    bytes: int
    has_end: bool
    is_due: bool = False  #: it has ended, and its webhook was not taken yet


class JobStore:
    """Of one gateway alone: see ``identity.py``."""

    def __init__(self, files: Files) -> None:
        self._files = files

    async def create(self, record: JobRecord) -> None:
        """Place what was asked for. Raises FileExistsError."""
        await self._files.create(_folder(record.id), [(_JOB, record.model_dump_json().encode())])

    async def sync_created(self, job_id: str) -> None:
        await self._files.sync(_folder(job_id), [_JOB])
        await self._files.sync(_JOBS, [])

    async def mark_published(self, job_id: str) -> None:
        """Not synced: without the mark, a repeat of the request publishes the same job once more."""
        await self._files.place(_folder(job_id), [(_PUBLISHED, b"")])

    async def mark_notified(self, job_id: str) -> None:
        """Not synced: without the mark, the webhook comes once more, with the same id."""
        await self._files.place(_folder(job_id), [(_NOTIFIED, b"")])

    async def add_image(self, facts: ImageFacts, content_type: str, data: bytes) -> StoredImage:
        """Place a picture; the facts come last, and say that it is there. Raises FileNotFoundError."""
        name = f"{facts.index}{_suffix(content_type)}"
        image = StoredImage(facts=facts, content_type=content_type, file=name, bytes=len(data))
        files = [(name, data), (f"{facts.index}.json", image.model_dump_json().encode())]
        await self._files.place(_folder(facts.id), files)
        return image

    async def sync_image(self, job_id: str, image: StoredImage) -> None:
        await self._files.sync(_folder(job_id), [image.file, f"{image.index}.json"])

    async def add_end(self, end: Done | Failed) -> None:
        """Raises FileNotFoundError."""
        await self._files.place(_folder(end.id), [(_END, end_to_json(end))])

    async def sync_end(self, job_id: str) -> None:
        await self._files.sync(_folder(job_id), [_END])

    async def load(self, job_id: str) -> StoredJob | None:
        """What is kept of the job; None without what was asked for."""
        sizes = await self._files.sizes(_folder(job_id))
        if (record := await self._read(job_id, _JOB, JobRecord.model_validate_json)) is None:
            return None
        job = StoredJob(record)
        facts = [name for name in sizes if _FACTS.fullmatch(name)]
        for image in await asyncio.gather(
            *(self._read(job_id, name, StoredImage.model_validate_json) for name in facts)
        ):
            # After a power cut the picture may be missing, or shorter; its reply then comes again.
            if image is not None and sizes.get(image.file) == image.bytes:
                job.images[image.index] = image
        job.end = await self._read(job_id, _END, end_from_json) if _END in sizes else None
        # Any reply proves it, too.
        job.is_published = bool(job.images) or job.end is not None or _PUBLISHED in sizes
        return job

    async def delete(self, job_id: str) -> None:
        """Delete all of a job; does nothing if there is none. Who dies meanwhile leaves what is no job any more."""
        await self._files.delete(_folder(job_id), _JOB)

    def file(self, job_id: str, image: StoredImage) -> StoredFile:
        """The file of a picture."""
        return StoredFile(self._files, _folder(job_id), image.file, image.bytes)

    async def entries(self) -> list[Entry]:
        """Each job, in no order; what a gateway left that died while it began or deleted one is removed."""
        slots = asyncio.Semaphore(_AT_ONCE)

        async def entry(job_id: str, sizes: dict[str, int]) -> Entry | None:
            async with slots:
                record = await self._read(job_id, _JOB, JobRecord.model_validate_json)
                if record is None:
                    await self._files.delete(f"{_JOBS}/{job_id}", _JOB)
                    return None
            is_due = record.webhook is not None and _END in sizes and _NOTIFIED not in sizes
            return Entry(record.id, record.owner, record.created_at, sum(sizes.values()), _END in sizes, is_due)

        found = await self._files.folders(_JOBS)
        return [each for each in await asyncio.gather(*(entry(*item) for item in found.items())) if each is not None]

    async def _read(self, job_id: str, name: str, parse: Callable[[bytes], Read]) -> Read | None:
        """What the file has; None where there is none, or a disk has spoilt it."""
        written = await self._files.read(f"{_JOBS}/{job_id}", name)
        try:
            return None if written is None else parse(written)
        except ValidationError as error:
            why = error.errors(include_url=False)[0]["msg"]
            log.warning("%s cannot be read, and counts as missing: %s", f"{_JOBS}/{job_id}/{name}", why)
            return None


def _folder(job_id: str) -> str:
    if not ID.fullmatch(job_id):
        raise ValueError(f"{job_id!r} is no name of a folder")
    return f"{_JOBS}/{job_id}"


def _suffix(content_type: str) -> str:
    found = next((name for name, known in picture_formats.CONTENT_TYPES.items() if known == content_type), None)
    return picture_formats.SUFFIXES[found] if found is not None else ".bin"
