"""Which parts the request daemon has, and what they have to do with each other."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

from stablediffusiond.broker.link import Link
from stablediffusiond.broker.publisher import Publisher
from stablediffusiond.broker.topology import Topology
from stablediffusiond.engine.catalogue import Catalogue
from stablediffusiond.engine.engine import Engine
from stablediffusiond.engine.loaded_models import LoadedModels
from stablediffusiond.messages.status import Offer
from stablediffusiond.requestd.control import Control
from stablediffusiond.requestd.dead_letters import DeadLetterConsumer
from stablediffusiond.requestd.job_admission import JobAdmission
from stablediffusiond.requestd.job_drawing import JobDrawing
from stablediffusiond.requestd.job_forwarding import JobForwarding
from stablediffusiond.requestd.job_processor import JobProcessor
from stablediffusiond.requestd.metrics import RequestMetrics
from stablediffusiond.requestd.model_loader import ModelLoader
from stablediffusiond.requestd.model_set import ModelSet
from stablediffusiond.requestd.prefetch import PrefetchPolicy
from stablediffusiond.requestd.queue_choice import QueueChoice
from stablediffusiond.requestd.remembered_models import RememberedModels, state_folder
from stablediffusiond.requestd.reply_publisher import ReplyPublisher
from stablediffusiond.requestd.request_consumer import RequestConsumer
from stablediffusiond.requestd.served_models import ServedModels
from stablediffusiond.requestd.status_report import StatusReport
from stablediffusiond.service import notify
from stablediffusiond.settings import EngineSettings, ResidencySettings, Settings

log = logging.getLogger(__name__)

#: What the end may take beyond the time that running jobs have.
_EXTENSION_SECONDS: Final = 60
_STATUS_SECONDS: Final = 1


class Daemon:
    """What the parts have to do with each other."""

    def __init__(
        self,
        settings: Settings,
        topology: Topology,
        *,
        loaded: LoadedModels,
        loader: ModelLoader,
        consume_link: Link,
        publish_link: Link,
    ) -> None:
        self.loaded = loaded
        self._catalogue = loader.catalogue
        self._drain_seconds = settings.engine.drain_seconds
        self._out = publish_link
        self._refusal: str | None = None
        self.engine = self._engine(settings.engine)
        self.models = self._model_set(loader, settings.residency)
        publisher = Publisher(publish_link, on_refusal=self._on_refusal)
        replies = ReplyPublisher(publisher, topology)
        encoders = ThreadPoolExecutor(settings.engine.encoder_threads, thread_name_prefix="png")
        drawing = JobDrawing(self.engine, replies, encoders, settings.limits)
        catalogue = loader.catalogue
        admission = JobAdmission(self.engine, self.models, topology, settings.limits, find_model=catalogue.find)
        # A publisher of its own: a model's queue that is full is no reason to draw nothing.
        forwarding = JobForwarding(Publisher(publish_link), topology)
        remembered = RememberedModels(topology.requests, state_folder())
        served = ServedModels(catalogue, remembered, forwarding.is_served)
        self.processor = JobProcessor(
            self.engine, admission, drawing, replies, forwarding=forwarding, models=served, topology=topology
        )
        self.processor.on_change = self.on_change
        self.report = self._status_report(catalogue)
        self.metrics = RequestMetrics(
            report=self.report, counters=self.processor.counters, engine=self.engine, models=self.models,
            publisher=publisher, consume_link=consume_link, publish_link=publish_link,
        )  # fmt: skip
        control = Control(self.processor.cancel, self.report.full, partial(_offer, loaded, loader.catalogue), replies)
        self.crashed = DeadLetterConsumer(topology, replies, self.processor.in_flight)
        self.consumer = RequestConsumer(
            consume_link, topology, self.processor, self.crashed,
            choice=self._queue_choice(catalogue.default, settings.engine),
            forwarding=forwarding, models=served, on_control=control.on_message,
        )  # fmt: skip

    def _engine(self, settings: EngineSettings) -> Engine:
        loop = asyncio.get_running_loop()
        return Engine(
            self.loaded,
            self.loaded,
            high_alone=settings.high_alone,
            progress_interval_seconds=settings.progress_interval_seconds,
            on_event=lambda event: _call_on_loop(loop, partial(self.processor.on_event, event)),
        )

    def _status_report(self, catalogue: Catalogue) -> StatusReport:
        return StatusReport(
            model=catalogue.default, served=lambda: catalogue.names,
            loaded=self.loaded, models=self.models, engine=self.engine,
            in_flight=self.processor.in_flight, counters=self.processor.counters,
        )  # fmt: skip

    def _queue_choice(self, default_model: str, settings: EngineSettings) -> QueueChoice:
        return QueueChoice(
            self.models,
            PrefetchPolicy(self.loaded, high_alone=settings.high_alone),
            unfinished=self.processor.in_flight.unfinished,
            paused=lambda: self.engine.paused is not None,
            default=default_model,
        )

    def _model_set(self, loader: ModelLoader, settings: ResidencySettings) -> ModelSet:
        auto = settings.device_bytes == "auto"
        return ModelSet(
            self.loaded,
            loader,
            most_bytes=self.loaded.room_bytes() if auto else int(settings.device_bytes),
            max_wait_seconds=settings.max_wait_seconds,
            on_change=self.on_change,
        )

    def reload(self, settings: Settings) -> None:
        """Other limits, and other models beside the default one."""
        self.processor.limit(settings.limits)
        before = set(self._catalogue.names)
        self._catalogue.look_again(settings)
        now = set(self._catalogue.names)
        for what, names in (("new", now - before), ("gone", before - now)):
            if names:
                log.info("SIGHUP: models that are %s: %s", what, ", ".join(sorted(names)))
        self.on_change()

    def on_change(self) -> None:
        """A job, a model, or the link that replies go by, has changed."""
        self._update_pause()
        self.consumer.look_again()

    def _update_pause(self) -> None:
        """Pause the engine while its pictures cannot be published."""
        connection, backlog = self._out.live, self.processor.unpublished
        blocked = connection is not None and not connection.accepting.is_set()
        if blocked or self._refusal:
            self.engine.pause(self._refusal or "the broker takes no publishes")
        elif backlog >= 2 * self.loaded.capacity.images:
            self.engine.pause(f"{backlog} pictures wait for the broker")
        else:
            self.engine.resume()

    async def keep_status(self) -> None:
        """Tell systemd how things are, once a second if that has changed."""
        said = ""
        while True:
            line = self.report.line(await self.consumer.backlog(), self._refusal or self._out.trouble)
            if line != said:
                notify(STATUS=line)
                said = line
            await asyncio.sleep(_STATUS_SECONDS)

    async def drain(self) -> None:
        """Give back what has not begun; let the rest be drawn, published and acked within the time allowed."""
        await self.consumer.stop()
        self.models.stop()
        self.processor.requeue_waiting()
        running = [job.task for job in self.processor.in_flight if job.task is not None]
        if running:
            log.info("%d jobs are running; they have %g s", len(running), self._drain_seconds)
            notify(EXTEND_TIMEOUT_USEC=int((self._drain_seconds + _EXTENSION_SECONDS) * 1_000_000))
            await asyncio.wait(running, timeout=self._drain_seconds)
        if len(self.processor.in_flight):
            log.warning("%d jobs are given back unfinished", len(self.processor.in_flight))
        self.processor.requeue_all()

    def _on_refusal(self, reason: str | None) -> None:
        self._refusal = reason
        self.on_change()


def _offer(loaded: LoadedModels, catalogue: Catalogue) -> Offer | None:
    offer = loaded.offer()
    return None if offer is None else offer.model_copy(update={"models": catalogue.names})


def _call_on_loop(loop: asyncio.AbstractEventLoop, callback: Callable[[], object]) -> None:
    """Have ``callback`` run on the loop, from the engine's thread, which may outlive the loop by a step."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(callback)
