"""One job from delivery to ack, told in the order in which it happens.

The order that loses nothing: every reply is published and confirmed, and only then is the request acked. Whatever ends
a job, ends it here with exactly one ``done`` or ``failed``; an error that is none of a job's (a bug) ends the daemon,
and the broker gives the job out again.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Executor
from datetime import UTC, datetime
from typing import TypeVar, TypeVarTuple

from PIL.Image import Image

from stablediffusiond.broker.message import Delivery
from stablediffusiond.broker.topology import Topology
from stablediffusiond.engine.engine import Engine
from stablediffusiond.engine.job import Begun, Drawn, Event, Failed, Finished, Previewed, Stepped, Task
from stablediffusiond.engine.pictures import encode_png, encode_preview, open_init_image
from stablediffusiond.errors import (
    Cancelled,
    Expired,
    InvalidRequest,
    JobError,
    MessageTooLarge,
    TooLarge,
    UnreadableMessage,
)
from stablediffusiond.logs import of_job
from stablediffusiond.messages.replies import Done
from stablediffusiond.messages.request import Request
from stablediffusiond.requestd import answers
from stablediffusiond.requestd.admission import Address, Order, address, admit, read
from stablediffusiond.requestd.cancellations import Cancellations
from stablediffusiond.requestd.ledger import Held, Ledger
from stablediffusiond.requestd.outlet import Outlet
from stablediffusiond.requestd.tally import Tally
from stablediffusiond.settings import LimitSettings

log = logging.getLogger(__name__)

Given = TypeVarTuple("Given")
Made = TypeVar("Made")


class Desk:
    """Every job that this daemon is answering."""

    def __init__(
        self,
        engine: Engine,
        outlet: Outlet,
        topology: Topology,
        limits: LimitSettings,
        encoders: Executor,
    ) -> None:
        self.ledger = Ledger()
        self.tally = Tally()
        self._engine = engine
        self._outlet = outlet
        self._topology = topology
        self._limits = limits
        self._encoders = encoders
        #: Called whenever jobs come, go, or have a picture to publish.
        self.on_change: Callable[[], None] = lambda: None
        self._cancellations = Cancellations()
        #: Fails with the first error that is a bug and not a job's fault.
        self.broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def unpublished(self) -> int:
        """Pictures that are drawn and not yet with the broker."""
        return sum(held.unpublished for held in self.ledger)

    def limit(self, limits: LimitSettings) -> None:
        """Other limits, from the next job on."""
        self._limits = limits

    # What comes in

    def receive(self, delivery: Delivery) -> None:
        """Begin with a job."""
        held = self.ledger.take(delivery, self._topology.priority_of(delivery.queue))
        held.task = asyncio.create_task(self._answer(held), name=f"job {held.key}")
        held.task.add_done_callback(self._on_answered)
        self.on_change()

    def on_event(self, event: Event) -> None:
        """What the engine says of a job; called on the loop's thread."""
        if (held := self.ledger.get(event.task.key)) is None:
            return  # it was given back meanwhile
        held.begun = True
        if isinstance(event, Drawn):
            held.drawn += 1
            held.unpublished += 1
            self.on_change()
        held.events.put_nowait(event)

    def cancel(self, job_id: str) -> None:
        """End a job at its next step; one that has not come yet, when it comes."""
        self._cancellations.add(job_id)
        for held in self.ledger:
            if held.job_id == job_id:
                self._engine.cancel(held.key)

    # The end

    def give_back_waiting(self) -> None:
        """Return every job that the engine has not begun."""
        for held in self.ledger:
            if not held.begun:
                self._give_back(held)

    def give_back_all(self) -> None:
        """Return every job, drawn half or whole."""
        for held in self.ledger:
            self._give_back(held)

    def _give_back(self, held: Held) -> None:
        self._engine.cancel(held.key)
        if held.task is not None:
            held.task.cancel()
        self.ledger.give_back(held)

    # The story of one job

    async def _answer(self, held: Held) -> None:
        where = address(held.message, self._topology, fallback_id=str(uuid.uuid4()))
        try:
            fields = read(held.message, self._limits)
            where = address(held.message, self._topology, fields, where.job_id)
            held.job_id = where.job_id
            order = admit(
                held.message, fields, where, self._topology, self._limits,
                priority=held.priority, received_at=held.received_at,
            )  # fmt: skip
            held.images = order.request.count
            self.tally.queued_seconds.add(_queued_seconds(held, order))
            self._refuse_void(order)
            done = await self._draw(held, order)
            await self._outlet.reply(where, answers.done(where, done))
            self.tally.job_ended("done")
            about = of_job(where.job_id)
            log.info("job %s done: %d pictures in %.2f s", where.job_id, done.images, done.total_seconds, extra=about)
        except UnreadableMessage as error:
            kept_in, about = self._topology.dead, of_job(where.job_id)
            log.warning("job %s: %s; it is kept in %s", where.job_id, error, kept_in, extra=about)
            await self._outlet.reply(where, answers.failed(where, InvalidRequest(str(error))))
            came_from = self._topology.request_queue(held.priority)
            await self._outlet.keep_dead(held.message, where.job_id, came_from, str(error))
            self.tally.job_ended(InvalidRequest.code)
        except JobError as error:
            self._engine.cancel(held.key)  # it may have more images to draw
            log.info("job %s failed: %s: %s", where.job_id, error.code, error, extra=of_job(where.job_id))
            await self._outlet.reply(where, answers.failed(where, error))
            self.tally.job_ended(error.code)
        self.ledger.settle(held)

    def _refuse_void(self, order: Order) -> None:
        """Raise for a job that need not be drawn any more."""
        if self._cancellations.cover(order.address.job_id, order.published_at):
            raise Cancelled("cancelled before it was begun")
        if order.deadline is not None and time.monotonic() > order.deadline:
            raise Expired("its deadline had passed when it was delivered")

    async def _draw(self, held: Held, order: Order) -> Done:
        """Have the order drawn and each picture published as soon as it is there."""
        init_image = await self._open_init_image(order.request)
        self._engine.submit(Task(held.key, order.request, order.deadline, init_image))
        images = 0
        while True:
            match await held.events.get():
                case Begun():
                    log.info("job %s begins", order.address.job_id, extra=of_job(order.address.job_id))
                    await self._ask_for_previews(held, order)
                case Stepped(step=step, steps=steps):
                    self._outlet.progress(order.address, step, steps)
                    await self._ask_for_previews(held, order)
                case Previewed(facts=facts, pixels=pixels):
                    jpeg = await self._beside(encode_preview, pixels)
                    requested = order.request.preview_every is not None
                    self._outlet.preview(order.address, facts, jpeg, requested=requested)
                case Drawn() as drawn:
                    await self._send(order.address, drawn)
                    self.tally.picture_published()
                    held.unpublished -= 1
                    self.on_change()
                    images += 1
                case Failed(error=error):
                    raise error
                case Finished(engine_seconds=engine_seconds):
                    return _account(held, order, images, engine_seconds)

    async def _send(self, where: Address, drawn: Drawn) -> None:
        """Encode one picture and publish it.

        Raises:
            TooLarge: brokers do not take a message of that size.
        """
        png = await self._beside(encode_png, drawn.pixels)
        if len(png) > self._limits.max_reply_bytes:
            raise TooLarge(f"the picture has {len(png)} bytes; a reply holds {self._limits.max_reply_bytes}")
        try:
            await self._outlet.reply(where, answers.image(where, drawn.facts, png))
        except MessageTooLarge as error:
            raise TooLarge(str(error)) from None

    async def _open_init_image(self, request: Request) -> Image | None:
        """The picture that img2img begins with.

        Raises:
            InvalidRequest, TooLarge: it cannot be opened.
        """
        if request.image is None:
            return None
        shape = self._engine.shape_of(request)
        return await self._beside(open_init_image, request.image, shape.width, shape.height)

    async def _beside(self, work: Callable[[*Given], Made], *given: *Given) -> Made:
        """Do work on pictures in a thread beside the engine's, which does nothing but step."""
        return await asyncio.get_running_loop().run_in_executor(self._encoders, work, *given)

    async def _ask_for_previews(self, held: Held, order: Order) -> None:
        """Have the engine show previews as soon as somebody listens for them; until then it makes none."""
        if not held.previewed and order.request.preview_every is None:
            held.previewed = await self._outlet.wants_previews(order.address)
            if held.previewed:
                self._engine.show_previews(held.key)

    def _on_answered(self, task: asyncio.Task[None]) -> None:
        self.on_change()
        if not task.cancelled() and (error := task.exception()) and not self.broken.done():
            self.broken.set_exception(error)


def _account(held: Held, order: Order, images: int, engine_seconds: float) -> Done:
    """Where the time went. AMQP's timestamps are whole seconds, so what follows them may be up to one too long."""
    now = datetime.now(UTC)
    began = order.published_at or held.received_at
    return Done(
        id=order.address.job_id,
        images=images,
        queued_seconds=round(_queued_seconds(held, order), 3),
        engine_seconds=round(engine_seconds, 3),
        total_seconds=round(max(0.0, (now - began).total_seconds()), 3),
        warnings=order.warnings,
    )


def _queued_seconds(held: Held, order: Order) -> float:
    """From publication to delivery; 0 for a message that does not say when it was published."""
    return max(0.0, (held.received_at - (order.published_at or held.received_at)).total_seconds())
