"""Ctrl-C while events are read: none is lost."""

import itertools
import random
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Self

from stablediffusiond.client import Client, Done, Event
from tests.client.fake_daemons import FakeDaemons, indices
from tests.client.fake_responses import PATIENCE_SECONDS


class Interruptions:
    """Ctrl-C of a thread that is ready for it, again and again."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._thread = threading.get_ident()
        self._taken, self._ended = threading.Event(), threading.Event()
        self.ready = False
        self.count = 0

    def __enter__(self) -> Self:
        self._before = signal.signal(signal.SIGUSR1, self._interrupt)
        self._sending = threading.Thread(target=self._send)
        self._sending.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._taken.set()
        self._sending.join()
        signal.signal(signal.SIGUSR1, self._before)

    def _send(self) -> None:
        while not self._ended.wait(self._chance.random() * 0.003):
            signal.pthread_kill(self._thread, signal.SIGUSR1)
            self._taken.wait()
            self._taken.clear()

    def _interrupt(self, *_: object) -> None:
        self._taken.set()
        if self.ready:
            self.ready = False
            self.count += 1
            raise KeyboardInterrupt


def test_reading_that_is_interrupted_again_and_again_loses_nothing(client: Client, daemons: FakeDaemons) -> None:
    """Ctrl-C in an interactive session, after which one reads on."""
    pictures = 60
    job = client.submit(prompt="cat", count=pictures)
    request = daemons.take()
    events, read = job.events(), list[Event]()

    def draw() -> None:
        for index in range(pictures):
            daemons.draw(request, index, count=pictures)
            time.sleep(0.002)
        daemons.finish(request)

    with ThreadPoolExecutor() as pool, Interruptions(seed=1) as interruptions:
        drawing = pool.submit(draw)
        while not read or not isinstance(read[-1], Done):
            try:
                interruptions.ready = True
                read.extend(itertools.islice(events, 1))  # no bytecode between having it and keeping it
                interruptions.ready = False
            except KeyboardInterrupt:
                pass
        drawing.result(PATIENCE_SECONDS)
    assert indices(read) == list(range(pictures))
    assert interruptions.count > 10
