"""Records of jobs: what was submitted, which replies came, and whether they are those of a reference run."""

import io
import threading
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from PIL import Image

from stablediffusiond.frames import Frame

#: A picture that was drawn beside others may differ in the last bit of a float.
_PIXEL_TOLERANCE: Final = 1


@dataclass
class JobRecord:
    """One job."""

    kind: str
    confirmed: bool = False  #: the broker has taken charge of it
    ends: list[Frame] = field(default_factory=list)
    pictures: dict[int, bytes] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)  #: types of replies, without duplicates


class JobRecords:
    """By the jobs' ids; safe from any thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.jobs: dict[str, JobRecord] = {}
        self._seen: set[str] = set()
        self.duplicates = 0
        self.unknown_jobs: list[str] = []  #: the message_ids of replies to jobs that were not submitted here

    def add(self, job_id: str, kind: str) -> None:
        with self._changed:
            self.jobs[job_id] = JobRecord(kind)

    def confirm(self, job_id: str) -> None:
        with self._changed:
            self.jobs[job_id].confirmed = True
            self._changed.notify_all()

    def add_reply(self, frame: Frame) -> None:
        """One reply as it came off the socket."""
        message_id = str(frame.head.get("message_id"))
        with self._changed:
            job = self.jobs.get(str(frame.head.get("id")))
            if job is None:
                self.unknown_jobs.append(message_id)
                return
            if message_id in self._seen:
                self.duplicates += 1
                return
            self._seen.add(message_id)
            kind = str(frame.head["type"])
            job.order.append(kind)
            if kind == "image" and frame.data is not None:
                index = frame.head["index"]
                assert isinstance(index, int)
                job.pictures[index] = frame.data
            else:
                job.ends.append(frame)
            self._changed.notify_all()

    def wait_for_room(self, most: int, timeout_seconds: float) -> bool:
        """Wait until fewer than ``most`` jobs have not ended."""
        with self._changed:
            return self._changed.wait_for(lambda: self._open < most, timeout_seconds)

    def has_ended(self, job_id: str) -> bool:
        with self._changed:
            return bool(self.jobs[job_id].ends)

    def wait_for_end(self, job_id: str, timeout_seconds: float) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: bool(self.jobs[job_id].ends), timeout_seconds)

    def wait_for_all(self, timeout_seconds: float) -> bool:
        """Wait until every job has ended."""
        return self.wait_for_room(1, timeout_seconds)

    @property
    def _open(self) -> int:
        return sum(not job.ends for job in self.jobs.values())

    @property
    def ended(self) -> int:
        with self._changed:
            return len(self.jobs) - self._open

    def done_before_last_image(self) -> int:
        """Jobs whose ``done`` came before their last picture: a broken connection gave that back late."""
        return sum(bool(job.ends) and job.order[-1] == "image" for job in self.jobs.values())

    def lost(self) -> list[str]:
        """Jobs that were confirmed and have no end."""
        return [name for name, job in self.jobs.items() if job.confirmed and not job.ends]

    def wrong(self, reference: "dict[str, JobRecord]") -> dict[str, str]:
        """Jobs whose replies are not those of the reference run of the same kind, with what is wrong."""
        found = {}
        for name, job in self.jobs.items():
            if job.ends and (what := _differs(job, reference[job.kind])):
                found[name] = f"{job.kind}: {what}"
        return found


def _differs(made: JobRecord, expected: JobRecord) -> str | None:
    ends = [frame.head["type"] for frame in made.ends]
    if len(ends) != 1:
        return f"ends {ends}, in the order {made.order}"
    if _outcome(made) != _outcome(expected):
        return f"{made.ends[0].head} and not {expected.ends[0].head}"
    if sorted(made.pictures) != sorted(expected.pictures):
        return f"pictures {sorted(made.pictures)}"
    for index, png in made.pictures.items():
        if png != expected.pictures[index] and (off := _distance(png, expected.pictures[index])) > _PIXEL_TOLERANCE:
            return f"picture {index} is off by {off}"
    return None


def _outcome(job: JobRecord) -> object:
    head = job.ends[0].head
    error = head.get("error")
    return head["type"], error.get("code") if isinstance(error, dict) else None


def _distance(one: bytes, other: bytes) -> int:
    pixels = [np.asarray(Image.open(io.BytesIO(png)), np.int16) for png in (one, other)]
    return int(np.abs(pixels[0] - pixels[1]).max()) if pixels[0].shape == pixels[1].shape else 255
