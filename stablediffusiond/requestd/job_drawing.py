"""The pictures of one job: drawn by the engine, encoded, and published as soon as they are there, as are previews."""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import TypeVar, TypeVarTuple

from stablediffusiond.engine.engine import Engine
from stablediffusiond.engine.job import Begun, Drawn, Failed, Finished, Previewed, Stepped, Task
from stablediffusiond.errors import MessageTooLarge, TooLarge
from stablediffusiond.logs import of_job
from stablediffusiond.messages.complete_request import CompleteRequest
from stablediffusiond.pictures.encoding import encode_preview
from stablediffusiond.pictures.masks import Overlay
from stablediffusiond.requestd import picture_file, reply_messages
from stablediffusiond.requestd.admission import AcceptedRequest
from stablediffusiond.requestd.in_flight import InFlightJob
from stablediffusiond.requestd.init_images import InitImages
from stablediffusiond.requestd.reply_publisher import ReplyPublisher
from stablediffusiond.settings import LimitSettings

log = logging.getLogger(__name__)

Arguments = TypeVarTuple("Arguments")
Made = TypeVar("Made")


class JobDrawing:
    """Draws with ``engine``, encodes in the threads of ``encoders``, publishes with ``replies``."""

    def __init__(self, engine: Engine, replies: ReplyPublisher, encoders: Executor, limits: LimitSettings) -> None:
        self._engine = engine
        self._replies = replies
        self._encoders = encoders
        self._init_images = InitImages(engine.kind_of)
        #: Those of the next picture.
        self.limits = limits

    async def draw(self, job: InFlightJob, accepted: AcceptedRequest, on_published: Callable[[], None]) -> float:
        """Return when all pictures are published, with the seconds that it took the engine.

        ``on_published`` is called after each picture.

        Raises:
            JobError: the job has failed.
        """
        opened = await self._init_images.open(accepted.request, self.limits)
        request = opened.request
        job.kind = self._engine.kind_of(request)
        files = await self._read_files(request)
        pictures = opened.image, opened.mask, opened.controls, opened.image_prompts
        task = Task(job.key, request, accepted.deadline, *pictures, files)
        self._engine.submit(task)
        while True:
            match await job.events.get():
                case Begun(warnings=warnings):
                    accepted.warnings.extend(warnings)
                    log.info("job %s begins", accepted.address.job_id, extra=of_job(accepted.address.job_id))
                    await self._start_previews(job, accepted)
                case Stepped(step=step, steps=steps):
                    self._replies.progress(accepted.address, step, steps)
                    await self._start_previews(job, accepted)
                case Previewed() as previewed:
                    await self._publish_preview(accepted, previewed)
                case Drawn() as drawn:
                    await self._publish(accepted, drawn, opened.overlay)
                    on_published()
                case Failed(error=error):
                    raise error
                case Finished(engine_seconds=engine_seconds):
                    return engine_seconds

    async def _read_files(self, request: CompleteRequest) -> object:
        """In a thread that ends with it: torch gives each thread that computes threads of its own, which would stay."""
        if not self._engine.names_files(request):
            return None
        reader = ThreadPoolExecutor(1, thread_name_prefix="files")
        try:
            return await asyncio.get_running_loop().run_in_executor(reader, self._engine.read_files, request)
        finally:
            reader.shutdown(wait=False)

    async def _publish(self, accepted: AcceptedRequest, drawn: Drawn, overlay: Overlay | None) -> None:
        """Encode one picture and publish it.

        Raises:
            TooLarge: brokers do not take a message of that size.
        """
        file = await self._in_encoder_thread(picture_file.make, drawn, overlay)
        accepted.warnings.extend(each for each in file.warnings if each not in accepted.warnings)
        if len(file.data) > self.limits.max_reply_bytes:
            raise TooLarge(f"the picture has {len(file.data)} bytes; a reply holds {self.limits.max_reply_bytes}")
        try:
            message = reply_messages.image(accepted.address, drawn.facts, file.data, file.content_type)
            await self._replies.reply(accepted.address, message)
        except MessageTooLarge as error:
            raise TooLarge(str(error)) from None

    async def _publish_preview(self, accepted: AcceptedRequest, previewed: Previewed) -> None:
        jpeg = await self._in_encoder_thread(encode_preview, previewed.pixels)
        requested = accepted.request.preview_every is not None
        self._replies.preview(accepted.address, previewed.facts, jpeg, requested=requested)

    async def _start_previews(self, job: InFlightJob, accepted: AcceptedRequest) -> None:
        """Have the engine make previews as soon as somebody listens for them; until then it makes none."""
        if not job.previewed and accepted.request.preview_every is None:
            job.previewed = await self._replies.wants_previews(accepted.address)
            if job.previewed:
                self._engine.show_previews(job.key)

    async def _in_encoder_thread(self, work: Callable[[*Arguments], Made], *arguments: *Arguments) -> Made:
        """Encode a picture in a thread beside the engine's, which does nothing but step."""
        return await asyncio.get_running_loop().run_in_executor(self._encoders, work, *arguments)
