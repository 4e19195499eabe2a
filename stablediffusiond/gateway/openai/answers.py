"""The answers of OpenAI's images API: all pictures at the end, or each as it comes, with what it looks like so far."""

import base64
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final, Literal

from starlette.requests import Request

from stablediffusiond.client.events import Preview
from stablediffusiond.errors import JobFailed
from stablediffusiond.gateway import events, problems
from stablediffusiond.gateway.base64_json import JsonWithPictures
from stablediffusiond.gateway.context import Context
from stablediffusiond.gateway.jobs import Job
from stablediffusiond.gateway.openai.asked import Asked
from stablediffusiond.gateway.store.records import StoredImage
from stablediffusiond.messages.replies import Failed

Kind = Literal["image_generation", "image_edit"]

#: Nothing is counted here, and clients want it to be there.
_USAGE: Final = {
    "input_tokens": 0, "output_tokens": 0, "total_tokens": 0,
    "input_tokens_details": {"image_tokens": 0, "text_tokens": 0},
}  # fmt: skip


def images(context: Context, request: Request, job: Job, asked: Asked) -> dict[str, Any]:
    """``ImagesResponse``, of a job that is done."""
    data = [_image(context, request, job, image, asked) for _, image in sorted(job.images.items())]
    found = next(iter(job.images.values()))
    made = {"created": _created(job), "data": data, "output_format": _format(found), "size": _size(found)}
    warnings = [*asked.warnings, *job.record.warnings]
    return {**made, "usage": _USAGE, **({"warnings": warnings} if warnings else {})}


class StreamedImages:
    """The pictures of a job as they come, and before each up to ``partial_images`` previews."""

    def __init__(self, context: Context, job: Job, asked: Asked, kind: Kind) -> None:
        self._context = context
        self._job = job
        self._kind = kind
        self._most_partial = asked.partial_images
        self._had: set[int] = set()
        self._partial: dict[int, int] = {}

    async def __aiter__(self) -> AsyncIterator[bytes]:
        job = self._job
        while not self._context.jobs.is_closing:
            changed = job.changed
            for partial in self._partials():
                yield partial
            for index in sorted(job.images.keys() - self._had):
                self._had.add(index)
                async for piece in self._completed(job.images[index]):
                    yield piece
            if job.has_ended:
                break
            if not await events.waited(changed):
                yield events.KEEP_ALIVE.encode()
        if isinstance(job.end, Failed):
            error = job.end.error
            problem = problems.of(JobFailed(error.code, error.message, field=error.field))
            yield events.encode("error", {"type": "error", **problems.openai_form(problem)}).encode()

    def _partials(self) -> Iterator[bytes]:
        """One after each of as many equal parts of the way as there may be, and one more."""
        for index, preview in sorted(self._job.previews.items()):
            sent = self._partial.get(index, 0)
            due = preview.facts.step * (self._most_partial + 1) // preview.facts.steps
            if sent < min(due, self._most_partial):
                self._partial[index] = sent + 1
                yield events.encode(f"{self._kind}.partial_image", self._partial_image(preview, sent)).encode()

    def _partial_image(self, preview: Preview, number: int) -> dict[str, Any]:
        picture = {"b64_json": base64.b64encode(preview.jpeg).decode(), "partial_image_index": number}
        size = "x".join(str(self._job.record.request.get(side, "auto")) for side in ("width", "height"))
        return {**picture, **self._facts(f"{self._kind}.partial_image", "jpeg", size)}

    async def _completed(self, image: StoredImage) -> AsyncIterator[bytes]:
        name = f"{self._kind}.completed"
        file = self._context.jobs.file(self._job.id, image)
        event = {"b64_json": file, **self._facts(name, _format(image), _size(image)), "usage": _USAGE}
        yield f"event: {name}\ndata: ".encode()
        async for piece in JsonWithPictures(event):
            yield piece
        yield b"\n\n"

    def _facts(self, kind: str, output_format: str, size: str) -> dict[str, Any]:
        about = {"type": kind, "created_at": _created(self._job), "output_format": output_format, "size": size}
        return {**about, "background": "opaque", "quality": "auto"}


def _image(context: Context, request: Request, job: Job, image: StoredImage, asked: Asked) -> dict[str, Any]:
    if asked.response_format == "url":
        return {"url": context.base(request) + context.links.path(job, image)}
    return {"b64_json": context.jobs.file(job.id, image)}


def _created(job: Job) -> int:
    return int(job.record.created_at.timestamp())


def _size(image: StoredImage) -> str:
    return f"{image.facts.width}x{image.facts.height}"


def _format(image: StoredImage) -> str:
    return image.content_type.removeprefix("image/")
