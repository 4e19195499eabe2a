"""Faults of the two daemons: each leaves them as a service manager would, or to be started again."""

import random
import signal
import time

from tests.faults import failing_prompts
from tests.faults.requestd_with_failpoint import KILLING, KILLING_WITH_MODELS
from tests.faults.service_under_test import ServiceUnderTest


def kill_requestd(service: ServiceUnderTest, rng: random.Random) -> None:
    service.restart_requestd(number=rng.randrange(len(service.requestds)))


def kill_requestd_at_a_failpoint(service: ServiceUnderTest, rng: random.Random) -> None:
    """A daemon that ends itself at an exact moment of the first job that reaches it."""
    number = rng.randrange(len(service.requestds))
    killing = KILLING_WITH_MODELS if service.models else KILLING
    daemon = service.restart_requestd(rng.choice(killing).__name__, number)
    deadline = time.monotonic() + 30
    while daemon.process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    service.restart_requestd(number=number)


def stop_requestd(service: ServiceUnderTest, rng: random.Random) -> None:
    """SIGTERM: it finishes what it has begun."""
    number = rng.randrange(len(service.requestds))
    if (code := service.requestds[number].stop()) not in {0, -15}:
        raise AssertionError(f"SIGTERM ended a request daemon with {code}\n{service.requestds[number].log[-5000:]}")
    service.restart_requestd(number=number)


def hang_requestd(service: ServiceUnderTest, rng: random.Random) -> None:
    """It stands still, as with a device that never answers, until it is ended as by systemd's watchdog."""
    number = rng.randrange(len(service.requestds))
    service.requestds[number].process.send_signal(signal.SIGSTOP)
    time.sleep(rng.choice((1, 4, 12)))
    service.restart_requestd(number=number)


def freeze_a_daemon(service: ServiceUnderTest, rng: random.Random) -> None:
    """It stands still and goes on, as with its machine; meanwhile the broker may have given it up."""
    process = rng.choice((*service.requestds, service.responsed)).process
    process.send_signal(signal.SIGSTOP)
    time.sleep(rng.choice((1, 4, 25)))
    process.send_signal(signal.SIGCONT)


def no_room_for_a_log(service: ServiceUnderTest, rng: random.Random) -> None:
    service.restart_requestd("log_discarded", rng.randrange(len(service.requestds)))


def clock_set(service: ServiceUnderTest, rng: random.Random) -> None:
    """A daemon whose clock is set by hours with each call of the network of a job that has a deadline."""
    service.restart_requestd("clock_jumps", rng.randrange(len(service.requestds)))


def poison_message(service: ServiceUnderTest, _: random.Random) -> None:
    """A job that ends the daemon that begins it; the daemons are started again each time, until it is given up."""
    job_id = service.client.submit(failing_prompts.POISON)
    deadline = time.monotonic() + 120
    while not service.client.records.has_ended(job_id) and time.monotonic() < deadline:
        time.sleep(0.05)
        service.start_ended_daemons()


def kill_responsed(service: ServiceUnderTest, _: random.Random) -> None:
    service.restart_responsed()
