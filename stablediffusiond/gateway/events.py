"""The events of a job as Server-Sent Events (https://html.spec.whatwg.org/multipage/server-sent-events.html).

The id of an event says which pictures a reader has had, as the bits of a number, and whether the end. So a reader that
comes again with it, to whichever gateway, gets what it lacks. Progress and previews have no id: only the newest counts.
"""

import asyncio
import base64
import json
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

from starlette.requests import Request

from stablediffusiond.client.events import Preview
from stablediffusiond.errors import InvalidRequest
from stablediffusiond.gateway.context import Context
from stablediffusiond.gateway.job_view import image_view
from stablediffusiond.gateway.jobs import Job
from stablediffusiond.messages.replies import Done, Progress

MEDIA_TYPE: Final = "text/event-stream"
#: A client, or what stands between, must not take a silent connection for a dead one.
_KEEP_ALIVE_SECONDS: Final = 15.0
KEEP_ALIVE: Final = ": still here\n\n"
_ID: Final = re.compile(r"(\d{1,60})(-end)?")


def encode(event: str | None, data: dict[str, Any], event_id: str | None = None) -> str:
    """One event."""
    lines = [f"id: {event_id}"] if event_id is not None else []
    lines += [f"event: {event}"] if event is not None else []
    return "\n".join([*lines, f"data: {json.dumps(data, ensure_ascii=False)}", "", ""])


class JobEvents:
    """What one reader of a job's events has had, and has not."""

    def __init__(self, context: Context, request: Request, job: Job) -> None:
        """Raises InvalidRequest for an id that is none of ours."""
        found = _ID.fullmatch(request.headers.get("last-event-id", "0"))
        if found is None:
            raise InvalidRequest("Last-Event-ID is none of these events'", field="Last-Event-ID")
        self._context = context
        self._base = context.base(request)
        self._job = job
        self._had = int(found[1])
        #: Nothing comes any more.
        self.is_over = found[2] is not None
        self._progress: Progress | None = None
        self._previews: dict[int, Preview] = {}

    async def __aiter__(self) -> AsyncIterator[str]:
        while not self.is_over and not self._context.jobs.is_closing:
            changed = self._job.changed
            for event in self._new():
                yield event
            if self.is_over:
                break
            if not await waited(changed):
                yield KEEP_ALIVE

    def _new(self) -> Iterator[str]:
        job = self._job
        if job.progress is not self._progress and job.progress is not None:
            self._progress = job.progress
            yield encode("progress", job.progress.model_dump())
        for index, preview in list(job.previews.items()):
            if self._previews.get(index) is not preview:
                self._previews[index] = preview
                yield encode("preview", {**preview.facts.model_dump(), "image": data_url(preview.jpeg)})
        for index, image in sorted(job.images.items()):
            if not self._had >> index & 1:
                self._had |= 1 << index
                yield encode("image", image_view(self._context, self._base, job, image), str(self._had))
        if job.has_ended and job.end is not None:
            self.is_over = True
            kind = "done" if isinstance(job.end, Done) else "failed"
            yield encode(kind, job.end.model_dump(exclude_none=True), f"{self._had}-end")


async def waited(changed: asyncio.Event) -> bool:
    """Wait for ``changed``; False when it is time for a sign of life."""
    try:
        async with asyncio.timeout(_KEEP_ALIVE_SECONDS):
            return await changed.wait()
    except TimeoutError:
        return False


def data_url(jpeg: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"
