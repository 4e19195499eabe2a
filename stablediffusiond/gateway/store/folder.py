"""The store as a folder: one folder for each job, one file for each thing that is kept of it.

    identity.json               the gateway's own queue, and the secret that signs addresses
    jobs/ID/job.json            what was asked for; before the job is published
    jobs/ID/published           the broker has confirmed that it has the job; empty
    jobs/ID/0.png, 0.json       a picture and its facts; before its reply is acked
    jobs/ID/end.json            ``done`` or ``failed``; before that is acked
    jobs/ID/notified            its webhook was taken; empty

All of it blocks, and is called in threads; ``jobs.py`` has in memory what is asked for often.
"""

import logging
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final, TypeVar

from pydantic import ValidationError

from stablediffusiond import picture_formats
from stablediffusiond.gateway.store import disk
from stablediffusiond.gateway.store.records import ID, JobRecord, StoredImage, end_from_json, end_to_json
from stablediffusiond.messages.replies import Done, Failed, ImageFacts

log = logging.getLogger(__name__)

Read = TypeVar("Read")

_JOB: Final = "job.json"
_PUBLISHED: Final = "published"
_END: Final = "end.json"
_NOTIFIED: Final = "notified"


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


class StoreFolder:
    """Of one gateway alone: see ``identity.py``."""

    def __init__(self, folder: Path) -> None:
        self._jobs = folder / "jobs"
        self._jobs.mkdir(mode=0o700, exist_ok=True)

    def create(self, record: JobRecord) -> None:
        """Place what was asked for. Raises FileExistsError, and OSError as all of this does."""
        folder = self._folder(record.id)
        folder.mkdir(mode=0o700)
        disk.place(folder, [(_JOB, record.model_dump_json().encode())])

    def sync_created(self, job_id: str) -> None:
        disk.sync(self._folder(job_id), [_JOB])
        disk.sync(self._jobs, [])

    def mark_published(self, job_id: str) -> None:
        """Not synced: without the mark, a repeat of the request publishes the same job once more."""
        (self._folder(job_id) / _PUBLISHED).touch()

    def mark_notified(self, job_id: str) -> None:
        """Not synced: without the mark, the webhook comes once more, with the same id."""
        (self._folder(job_id) / _NOTIFIED).touch()

    def add_image(self, facts: ImageFacts, content_type: str, data: bytes) -> StoredImage:
        """Place a picture; the facts come last, and say that it is there."""
        name = f"{facts.index}{_suffix(content_type)}"
        image = StoredImage(facts=facts, content_type=content_type, file=name, bytes=len(data))
        files = [(name, data), (f"{facts.index}.json", image.model_dump_json().encode())]
        disk.place(self._folder(facts.id), files)
        return image

    def sync_image(self, job_id: str, image: StoredImage) -> None:
        disk.sync(self._folder(job_id), [image.file, f"{image.index}.json"])

    def add_end(self, end: Done | Failed) -> None:
        disk.place(self._folder(end.id), [(_END, end_to_json(end))])

    def sync_end(self, job_id: str) -> None:
        disk.sync(self._folder(job_id), [_END])

    def load(self, job_id: str) -> StoredJob | None:
        """What is kept of the job; None without what was asked for."""
        folder = self._folder(job_id)
        if (record := _read(folder / _JOB, JobRecord.model_validate_json)) is None:
            return None
        job = StoredJob(record)
        for file in folder.glob("[0-9]*.json"):
            image = _read(file, StoredImage.model_validate_json)
            if image is not None and _is_whole(folder / image.file, image.bytes):
                job.images[image.index] = image
        job.end = _read(folder / _END, end_from_json)
        # Any reply proves it, too.
        job.is_published = bool(job.images) or job.end is not None or (folder / _PUBLISHED).exists()
        return job

    def delete(self, job_id: str) -> None:
        """Delete all of a job; does nothing if there is none."""
        shutil.rmtree(self._folder(job_id), ignore_errors=True)

    def path(self, job_id: str, image: StoredImage) -> Path:
        """The file of a picture."""
        return self._folder(job_id) / image.file

    def entries(self) -> Iterator[Entry]:
        """Each job, in no order; what a gateway left that died while it began one is removed."""
        for folder in self._jobs.iterdir():
            sizes = {file.name: file.stat().st_size for file in folder.iterdir()}
            record = _read(folder / _JOB, JobRecord.model_validate_json)
            if record is None:
                self.delete(folder.name)
            else:
                is_due = record.webhook is not None and _END in sizes and _NOTIFIED not in sizes
                yield Entry(record.id, record.owner, record.created_at, sum(sizes.values()), _END in sizes, is_due)

    def _folder(self, job_id: str) -> Path:
        if not ID.fullmatch(job_id):
            raise ValueError(f"{job_id!r} is no name of a folder")
        return self._jobs / job_id


def _is_whole(file: Path, size: int) -> bool:
    """After a power cut it may be missing, or shorter; its reply then comes again."""
    return file.exists() and file.stat().st_size == size


def _read(file: Path, parse: Callable[[bytes], Read]) -> Read | None:
    """What ``file`` has; None where there is none, or a disk has spoilt it."""
    try:
        return parse(file.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        log.warning("%s cannot be read, and counts as missing: %s", file, error.errors(include_url=False)[0]["msg"])
        return None


def _suffix(content_type: str) -> str:
    found = next((name for name, known in picture_formats.CONTENT_TYPES.items() if known == content_type), None)
    return picture_formats.SUFFIXES[found] if found is not None else ".bin"
