"""A job as JSON."""

from typing import Any

from stablediffusiond.gateway.context import Context
from stablediffusiond.gateway.jobs import Job
from stablediffusiond.gateway.store.records import StoredImage
from stablediffusiond.messages.replies import Done


def job_view(context: Context, base: str, job: Job) -> dict[str, Any]:
    """What ``GET /jobs/ID`` answers; addresses of pictures begin with ``base``."""
    view: dict[str, Any] = {
        "id": job.id,
        "state": state(job),
        "created_at": job.record.created_at.isoformat(timespec="milliseconds"),
        "request": job.record.request,
        "warnings": job.record.warnings,
        "images": [image_view(context, base, job, image) for _, image in sorted(job.images.items())],
        "events": f"/jobs/{job.id}/events",
    }
    if job.progress is not None and not job.has_ended:
        view["progress"] = job.progress.model_dump(exclude={"id"})
    if isinstance(job.end, Done):
        view["warnings"] = list(dict.fromkeys([*job.record.warnings, *job.end.warnings]))
        view |= job.end.model_dump(include={"queued_seconds", "engine_seconds", "total_seconds"})
    elif job.end is not None:
        view["error"] = job.end.error.model_dump(exclude_none=True)
    return view


def image_view(context: Context, base: str, job: Job, image: StoredImage) -> dict[str, Any]:
    """A picture: where it is, and all that is needed to draw it again."""
    facts = image.facts.model_dump(exclude_none=True, exclude={"id", "count"})
    url = base + context.links.path(job, image)
    return {**facts, "content_type": image.content_type, "bytes": image.bytes, "url": url}


def state(job: Job) -> str:
    """In a word. ``unconfirmed``: the broker was away when it came, and who sent it has to send it again."""
    if job.has_ended:
        return "done" if isinstance(job.end, Done) else "failed"
    if not job.is_published:
        return "unconfirmed"
    return "queued" if job.progress is None and not job.images else "drawing"
