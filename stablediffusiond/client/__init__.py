"""The Python library: put jobs into the queue, read their events, get Pillow images.

    with Client() as client:
        job = client.submit(prompt="a red cat", seed=42, count=2)
        for event in job:
            if isinstance(event, Image):
                Path(f"cat-{event.facts.index}.png").write_bytes(event.data)

And from a program with an event loop:

    async with AsyncClient() as client:
        [cat] = await client.draw(prompt="a red cat", seed=42)

Both are ways to call ``core``, which has a ``listener`` (replies come from the response daemon), a ``reply_buffer``
(they wait there to be read) and a ``submitter`` (requests go to the broker).
"""

from stablediffusiond.client.async_client import AsyncClient
from stablediffusiond.client.client import Client
from stablediffusiond.client.events import Event, Image, Preview
from stablediffusiond.client.job import AsyncJob, Job
from stablediffusiond.messages.replies import Done, Failed, Progress
from stablediffusiond.messages.status import ServiceStatus

__all__ = [
    "AsyncClient",
    "AsyncJob",
    "Client",
    "Done",
    "Event",
    "Failed",
    "Image",
    "Job",
    "Preview",
    "Progress",
    "ServiceStatus",
]
