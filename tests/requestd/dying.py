"""The request daemon with a part that dies at the first job: ``python -m tests.requestd.dying PART``.

PART is one of the functions here.
"""

import asyncio
import sys
import threading
from unittest.mock import patch

from stablediffusiond.broker.link import Link
from stablediffusiond.broker.message import Message
from stablediffusiond.engine.engine import Engine
from stablediffusiond.requestd import daemon, loading, picture_file, reply_messages
from tests.engine.fake import FakeDenoiser


def spin(*_: object) -> None:
    while True:
        pass


ERROR = RuntimeError("nobody expected this")


def device() -> None:
    patch.object(FakeDenoiser, "step", side_effect=ERROR).start()


def engine_without_a_word() -> None:
    patch.object(Engine, "run", Engine._wait_for_work).start()


def encoder() -> None:
    patch.object(picture_file, "make", side_effect=ERROR).start()


def never_loaded() -> None:
    patch.multiple(loading, _NOTICE_SECONDS=0.1, _STANDSTILL_SECONDS=0.5).start()
    patch.object(daemon, "_import_and_load", lambda *_: threading.Event().wait()).start()


def never_loaded_and_not_noticed() -> None:
    patch.object(daemon, "_import_and_load", lambda *_: threading.Event().wait()).start()


def loaded_too_long_and_not_noticed() -> None:
    patch.object(daemon, "_import_and_load", spin).start()


def loaded_too_long() -> None:
    """By a device that hangs and computes."""
    patch.multiple(loading, _NOTICE_SECONDS=0.1, _LONGEST_LOAD_SECONDS=1).start()
    patch.object(daemon, "_import_and_load", spin).start()


def answer_for_the_crashed() -> None:
    """Headers are what answering stumbles over."""
    dead = reply_messages.dead

    def stumbling(request: Message, *said: str) -> Message:
        if request.headers:
            raise ERROR
        return dead(request, *said)

    patch.object(reply_messages, "dead", stumbling).start()


def link_of_jobs() -> None:
    _kill_link("takes jobs")


def link_of_replies() -> None:
    _kill_link("replies")


def _kill_link(name: str) -> None:
    at_work = asyncio.Event()

    async def keep(link: Link) -> None:
        await link._announce(await link._connect())
        await at_work.wait()
        if name in link._name:
            raise ERROR
        await asyncio.Event().wait()

    patch.object(Link, "_keep", keep).start()
    patch.object(Engine, "submit", lambda *_: at_work.set()).start()


if __name__ == "__main__":
    patch.object(daemon, "_import_and_load", lambda *_: FakeDenoiser()).start()
    globals()[sys.argv[1]]()
    sys.exit(daemon.main([]))
