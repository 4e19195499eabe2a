"""The request daemon that ends itself at a chosen moment: ``python -m tests.faults.dying PHASE [stand-in]``.

PHASE is one of ``PHASES``. ``never`` is the daemon as it is, which with ``stand-in`` draws without a model. The end is a
SIGKILL from inside, so that the moment is exact and nothing is cleaned up.
"""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

from pika.exceptions import AMQPConnectionError

from stablediffusiond import logs
from stablediffusiond.broker.channel import Channel
from stablediffusiond.engine.engine import Engine
from stablediffusiond.requestd import daemon
from stablediffusiond.requestd.desk import Desk
from stablediffusiond.requestd.ledger import Ledger
from stablediffusiond.requestd.outlet import Outlet
from tests.faults.stand_in import StandIn

POISON: Final = "poison"  #: the prompt that ends the daemon in the phase ``poison``


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def loading() -> None:
    _before(daemon, "_import_and_load")


def before_the_first_step() -> None:
    _before(Engine, "_denoise")


def mid_step() -> None:
    """In the second UNet call of an image: it has been made, and nobody knows."""
    call = Engine._call

    def dying(self: Engine, batch: list[Any]) -> Any:
        made = call(self, batch)
        if any(sample.step for sample in batch):
            die()
        return made

    patch.object(Engine, "_call", dying).start()


def drawn_and_not_published() -> None:
    _before(Desk, "_send")


def between_two_images() -> None:
    """The second picture of a job has been confirmed, and it has more."""
    reply = Outlet.reply

    async def dying(self: Outlet, where: Any, message: Any) -> None:
        await reply(self, where, message)
        if message.type == "image" and message.headers["index"] == 1:
            die()

    patch.object(Outlet, "reply", dying).start()


def published_and_not_acked() -> None:
    _before(Ledger, "settle")


def poison() -> None:
    """Whoever draws the poisoned prompt dies of it, every time."""
    begin = Engine._begin

    def dying(self: Engine, sample: Any) -> None:
        if sample.task.request.prompt == POISON:
            die()
        begin(self, sample)

    patch.object(Engine, "_begin", dying).start()


def hung() -> None:
    """The device takes a step and never comes back."""
    from stablediffusiond.engine import engine as module

    patch.object(module, "_LONGEST_STEP_SECONDS", 1.0).start()
    patch.object(Engine, "_call", lambda *_: time.sleep(3600)).start()


def unacked_for_long() -> None:
    """A job takes seconds between its last picture and its ack."""
    settle = Ledger.settle

    def late(self: Ledger, held: Any) -> None:
        asyncio.get_running_loop().call_later(12, settle, self, held)

    patch.object(Ledger, "settle", late).start()


def unheard() -> None:
    """No journal takes what it logs, and the disk behind its standard error is full."""
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, sys.stderr.fileno())
    os.close(full)
    patch.object(logs, "_handler", lambda *_: logs.JournalHandler("stablediffusiond", Path("/nowhere"))).start()


def ack_lost() -> None:
    """The connection breaks with the first ack on its way."""
    ack = Channel.ack

    def losing(self: Channel, tag: int) -> None:
        patch.object(Channel, "ack", ack).start()
        connection: Any = self._channel.connection
        connection._terminate_stream(AMQPConnectionError("cut by the test"))

    patch.object(Channel, "ack", losing).start()


def never() -> None:
    """The daemon as it is."""


KILLS: Final[tuple[Callable[[], None], ...]] = (
    loading,
    before_the_first_step,
    mid_step,
    drawn_and_not_published,
    between_two_images,
    published_and_not_acked,
)
PHASES: Final = {phase.__name__: phase for phase in (*KILLS, poison, hung, unacked_for_long, unheard, ack_lost, never)}


def _before(owner: object, method: str) -> None:
    patch.object(owner, method, lambda *_: die()).start()


if __name__ == "__main__":
    if "stand-in" in sys.argv[2:]:
        patch.object(daemon, "_import_and_load", lambda _: StandIn()).start()
    PHASES[sys.argv[1]]()
    sys.exit(daemon.main([]))
