"""Faults of the ways to the broker, which lead through proxies."""

import random
import time

from tests.faults.proxy import Proxy
from tests.faults.service_under_test import ServiceUnderTest


def connections_reset(service: ServiceUnderTest, rng: random.Random) -> None:
    _path(service, rng).reset()


def connection_cut_inside_a_frame(service: ServiceUnderTest, rng: random.Random) -> None:
    _path(service, rng).cut_after(rng.randrange(1, 30_000))


def silence(service: ServiceUnderTest, rng: random.Random) -> None:
    """Nothing passes any more, in one direction or both, for up to longer than heartbeats allow."""
    path = _path(service, rng)
    path.silence(*rng.choice((("up",), ("down",), ("up", "down"))))
    time.sleep(rng.choice((1, 4, 25)))
    path.heal()


def slow_line(service: ServiceUnderTest, rng: random.Random) -> None:
    path = _path(service, rng)
    path.slow_down(50_000)
    time.sleep(rng.uniform(2, 8))
    path.heal()


def late_line(service: ServiceUnderTest, rng: random.Random) -> None:
    path = _path(service, rng)
    path.delay(1.0)
    time.sleep(rng.uniform(2, 8))
    path.heal()


def _path(service: ServiceUnderTest, rng: random.Random) -> Proxy:
    return rng.choice((service.jobs_path, service.replies_path, service.client_path))
