"""The request daemon with a failpoint: ``python -m tests.faults.requestd_with_failpoint FAILPOINT [fake-denoiser]``.

FAILPOINT is one of ``FAILPOINTS``. At those in ``KILLING`` the daemon ends with a SIGKILL from inside, so that the moment is
exact and nothing is cleaned up; at others its device fails, its clock jumps, or it waits for less than it usually does.
``none`` is the daemon as it is. With ``fake-denoiser`` it draws without a model; where the settings have several, each
takes ``$FAKE_LOAD_SECONDS`` to load.
"""

import asyncio
import itertools
import os
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

from pika.exceptions import AMQPConnectionError

from stablediffusiond import logs
from stablediffusiond.broker.channel import Channel
from stablediffusiond.broker.topology import REQUEST_DELIVERY_LIMIT
from stablediffusiond.engine import drawing
from stablediffusiond.engine.drawing import Drawing
from stablediffusiond.engine.recovery import RecoveringStep
from stablediffusiond.requestd import daemon, reply_publisher
from stablediffusiond.requestd.in_flight import InFlightJobs
from stablediffusiond.requestd.job_drawing import JobDrawing
from stablediffusiond.requestd.reply_publisher import ReplyPublisher
from tests.faults import failing_prompts, fake_denoiser
from tests.faults.fake_denoiser import die
from tests.faults.model_failpoints import changing_over, fake_load, loading_another, passing_on

HANGS_AFTER_SECONDS: Final = 0.5
#: More than a job may have.
REDELIVERIES: Final = REQUEST_DELIVERY_LIMIT + 2


def loading() -> None:
    _before(daemon, "_import_and_load")


def before_the_first_step() -> None:
    _before(Drawing, "_denoise")


def mid_step() -> None:
    """In the second call of an image: it has been made, and nobody knows."""
    call = RecoveringStep._call

    def dying(self: RecoveringStep, batch: list[Any]) -> Any:
        made = call(self, batch)
        if any(sample.step > 1 for sample in batch):
            die()
        return made

    patch.object(RecoveringStep, "_call", dying).start()


def drawn_and_not_published() -> None:
    _before(JobDrawing, "_publish")


def between_two_images() -> None:
    """The second picture of a job has been confirmed, and it has more."""
    reply = ReplyPublisher.reply

    async def dying(self: ReplyPublisher, where: Any, message: Any) -> None:
        await reply(self, where, message)
        if message.type == "image" and message.headers["index"] == 1:
            die()

    patch.object(ReplyPublisher, "reply", dying).start()


def published_and_not_acked() -> None:
    _before(InFlightJobs, "settle")


def device_hangs() -> None:
    """The device draws until it gets the prompt that it never comes back from."""
    patch.object(drawing, "_LONGEST_TICK_SECONDS", HANGS_AFTER_SECONDS).start()
    patch.object(drawing, "_LONGER_THAN_MEASURED", 0.0).start()
    call = RecoveringStep._call

    def hanging(self: RecoveringStep, batch: list[Any]) -> Any:
        if any(sample.task.request.prompt == failing_prompts.HANGING for sample in batch):
            threading.Event().wait()
        return call(self, batch)

    patch.object(RecoveringStep, "_call", hanging).start()


def device_fails() -> None:
    """Of the model itself, for the prompts that say how."""
    import torch

    from stablediffusiond.engine.device_errors import as_job_errors
    from stablediffusiond.engine.image_run import state_of
    from stablediffusiond.engine.pipeline_denoiser import PipelineDenoiser

    begin, step, finish = (getattr(PipelineDenoiser, name) for name in ("begin", "step", "finish"))

    def no_numbers(self: Any, samples: Any) -> Any:
        failures = begin(self, samples)
        for sample in samples:
            if sample.task.request.prompt == failing_prompts.NOT_A_NUMBER:
                scheduler = state_of(sample).scheduler.scheduler
                scheduler.step = _not_a_number(scheduler.step)
        return failures

    def no_room(self: Any, samples: Any, rows_at_once: int) -> Any:
        if any(sample.task.request.prompt == failing_prompts.OUT_OF_MEMORY for sample in samples):
            with as_job_errors():
                raise torch.OutOfMemoryError("CUDA out of memory")
        return step(self, samples, rows_at_once)

    def no_picture(self: Any, samples: Any) -> Any:
        for sample in samples:
            run = state_of(sample).run
            if sample.task.request.prompt == failing_prompts.UNDECODABLE and run.call is not None:
                # Two channels are too few for any decoder.
                run.call = replace(run.call, arguments={**run.call.arguments, "z": torch.zeros(1, 2, 8, 8)})
        return finish(self, samples)

    patch.multiple(PipelineDenoiser, begin=no_numbers, step=no_room, finish=no_picture).start()


def _not_a_number(step: Any) -> Any:
    return lambda *args, **kwargs: (step(*args, **kwargs)[0] * float("nan"),)


def clock_jumps() -> None:
    """With the calls of a job that has a deadline our clock is set an hour forward, two back, and right again."""
    offsets = itertools.cycle(timedelta(hours=hours) for hours in (1, -1, 0))

    class Jumping(datetime):
        offset = timedelta()

        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz) + cls.offset

    for name, module in list(sys.modules.items()):
        if name.startswith("stablediffusiond.") and hasattr(module, "datetime"):
            patch.object(module, "datetime", Jumping).start()
    call = RecoveringStep._call

    def jumping(self: RecoveringStep, batch: list[Any]) -> Any:
        if any(sample.task.request.deadline_seconds for sample in batch):
            Jumping.offset = next(offsets)
        return call(self, batch)

    patch.object(RecoveringStep, "_call", jumping).start()


def unacked_for_long() -> None:
    """A job takes seconds between its last picture and its ack."""
    settle = InFlightJobs.settle

    def late(self: InFlightJobs, held: Any) -> None:
        asyncio.get_running_loop().call_later(12, settle, self, held)

    patch.object(InFlightJobs, "settle", late).start()


def slow_until_redelivered() -> None:
    """A job is slow until its redelivery has been recognised so often; the log tells each time."""
    slow = patch.object(fake_denoiser, "_STEP_SECONDS", 0.5)
    slow.start()
    recognise, times = InFlightJobs.recognise, itertools.count(1)

    def telling(self: InFlightJobs, delivery: Any) -> bool:
        if known := recognise(self, delivery):
            print("recognised", file=sys.stderr)  # noqa: T201
            if next(times) == REDELIVERIES:
                slow.stop()
        return known

    patch.object(InFlightJobs, "recognise", telling).start()


def log_discarded() -> None:
    """No journal takes what it logs, and the disk behind its standard error is full."""
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, sys.stderr.fileno())
    os.close(full)
    patch.object(logs, "_handler", lambda *_: logs.JournalHandler("stablediffusiond", Path("/nowhere"))).start()


def short_patience() -> None:
    """A queue that takes nothing is given up after moments."""
    patch.object(reply_publisher, "_PATIENCE_SECONDS", 2).start()


def ack_lost() -> None:
    """The connection breaks with the first ack on its way."""
    ack = Channel.ack

    def losing(self: Channel, tag: int) -> None:
        patch.object(Channel, "ack", ack).start()
        connection: Any = self._channel.connection
        connection._terminate_stream(AMQPConnectionError("cut by the test"))

    patch.object(Channel, "ack", losing).start()


def none() -> None:
    """The daemon as it is."""


KILLING: Final[tuple[Callable[[], None], ...]] = (
    loading,
    before_the_first_step,
    mid_step,
    drawn_and_not_published,
    between_two_images,
    published_and_not_acked,
)
#: Those of a daemon with several models.
KILLING_WITH_MODELS: Final[tuple[Callable[[], None], ...]] = (*KILLING, loading_another, changing_over, passing_on)
FAILPOINTS: Final = {
    failpoint.__name__: failpoint
    for failpoint in (
        *KILLING_WITH_MODELS,
        device_hangs,
        device_fails,
        clock_jumps,
        unacked_for_long,
        slow_until_redelivered,
        log_discarded,
        short_patience,
        ack_lost,
        none,
    )
}


def _before(owner: object, method: str) -> None:
    patch.object(owner, method, lambda *_: die()).start()


if __name__ == "__main__":
    if "fake-denoiser" in sys.argv[2:]:
        patch.object(daemon, "_import_and_load", fake_load).start()
    FAILPOINTS[sys.argv[1]]()
    sys.exit(daemon.main([]))
