"""For programs with an event loop: the core in theirs."""

import asyncio
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Self

from stablediffusiond.client import fork
from stablediffusiond.client.core import Asked, Core, Options, asked
from stablediffusiond.client.deadline import Deadline
from stablediffusiond.client.image_argument import names_images
from stablediffusiond.client.job import AsyncJob
from stablediffusiond.errors import BelongsElsewhere
from stablediffusiond.messages.request import Request
from stablediffusiond.messages.status import ServiceStatus
from stablediffusiond.settings import Settings, load

if TYPE_CHECKING:
    import PIL.Image


class AsyncClient:
    """``Client`` with its names, to be awaited. For many tasks of one event loop, and many jobs at a time.

    Every wait may be cancelled, also by ``asyncio.timeout``, and nothing is lost by it but what was being asked for.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        progress: bool = False,
        previews: bool = False,
        reconnect_seconds: float = 60,
    ) -> None:
        """As ``Client``; may be made before there is an event loop."""
        self._options = Options(settings or load(), progress, previews, reconnect_seconds)
        self._core = Core(self._options)
        self._loop: asyncio.AbstractEventLoop | None = None
        fork.watch(self._begin_anew)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def queue(self) -> str:
        """Where the replies to this client's jobs go. Who knows its name can read them."""
        return self._core.queue

    async def close(self) -> None:
        """As ``Client.close``."""
        await self._here().close()

    async def connect(self, *, timeout_seconds: float | None = None) -> None:
        """As ``Client.connect``."""
        await self._here().connect(Deadline(timeout_seconds))

    async def submit(
        self,
        request: Request | Mapping[str, object] | None = None,
        /,
        *,
        timeout_seconds: float | None = None,
        **fields: object,
    ) -> AsyncJob:
        """As ``Client.submit``."""
        core, what = self._here(), await _asked(request, fields)
        replies = await core.submit(what, Deadline(timeout_seconds))
        return AsyncJob(what, replies, core, asyncio.get_running_loop())

    async def enqueue(
        self,
        request: Request | Mapping[str, object] | None = None,
        /,
        *,
        timeout_seconds: float | None = None,
        **fields: object,
    ) -> str:
        """As ``Client.enqueue``."""
        what = await _asked(request, fields)
        await self._here().enqueue(what.request, Deadline(timeout_seconds))
        return what.request.id

    async def draw(
        self,
        request: Request | Mapping[str, object] | None = None,
        /,
        *,
        timeout_seconds: float | None = None,
        **fields: object,
    ) -> "list[PIL.Image.Image]":
        """As ``Client.draw``; when it is cancelled, so is the job, unless its id was of your choosing."""
        deadline = Deadline(timeout_seconds)
        images = await self._here().draw(await _asked(request, fields), deadline)
        return [await asyncio.to_thread(image.picture) for image in images]

    async def cancel(self, job_id: str, *, timeout_seconds: float | None = None) -> None:
        """As ``Client.cancel``."""
        await self._here().cancel(job_id, Deadline(timeout_seconds))

    async def status(self, *, offer: bool = False, timeout_seconds: float | None = None) -> ServiceStatus:
        """As ``Client.status``."""
        return await self._here().status(Deadline(timeout_seconds), offer=offer)

    def _here(self) -> Core:
        """The core, which is of the first event loop that it is used in."""
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        if self._loop is not loop:
            raise BelongsElsewhere("this AsyncClient was used in another event loop before; each needs one of its own")
        return self._core

    def _begin_anew(self) -> None:
        """In a forked child."""
        fork.disown((self._core, self._loop), self._core.descriptors)
        self._core, self._loop = Core(self._options), None


async def _asked(request: Request | Mapping[str, object] | None, fields: Mapping[str, object]) -> Asked:
    """Beside the event loop, if files may have to be read and pictures encoded."""
    if names_images(fields):
        return await asyncio.to_thread(asked, request, fields)
    return asked(request, fields)
