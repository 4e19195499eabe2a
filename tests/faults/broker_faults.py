"""Faults of a broker, or of those who administer it."""

import random
import time

from tests.faults.service_under_test import ServiceUnderTest


def close_all_connections(service: ServiceUnderTest, _: random.Random) -> None:
    service.ctl("close_all_connections", "a fault made on purpose")


def kill_broker(service: ServiceUnderTest, rng: random.Random) -> None:
    service.broker.kill()
    time.sleep(rng.choice((0, 0, 5)))
    service.broker.start()


def restart_broker(service: ServiceUnderTest, _: random.Random) -> None:
    """In good order: the application is stopped and started again."""
    service.ctl("stop_app")
    service.ctl("start_app")


def impatient_broker(service: ServiceUnderTest, rng: random.Random) -> None:
    """It closes a channel on which a message is unacked for three seconds; a node with an advanced.config looks often."""
    _set_consumer_timeout(service, 3_000)
    time.sleep(rng.choice((4, 8)))
    _set_consumer_timeout(service, 1_800_000)


def _set_consumer_timeout(service: ServiceUnderTest, milliseconds: int) -> None:
    """Channels ask for it when they begin."""
    service.broker.evaluate(f"application:set_env(rabbit, consumer_timeout, {milliseconds}).")
    service.ctl("close_all_connections", "extending has changed")


def memory_alarm(service: ServiceUnderTest, rng: random.Random) -> None:
    service.ctl("set_vm_memory_high_watermark", "0.00001")
    time.sleep(rng.choice((1, 4, 14)))
    service.ctl("set_vm_memory_high_watermark", "0.4")


def disk_alarm(service: ServiceUnderTest, rng: random.Random) -> None:
    service.ctl("set_disk_free_limit", str(2**50))
    time.sleep(rng.choice((1, 4)))
    service.ctl("set_disk_free_limit", "50000000")


def results_refused(service: ServiceUnderTest, rng: random.Random) -> None:
    """The results queues are full and refuse: a policy with a length limit of zero."""
    pattern = f"^{service.topology.results}"
    service.ctl(
        "set_policy", "full", pattern, '{"max-length": 0, "overflow": "reject-publish"}', "--apply-to", "queues"
    )
    time.sleep(rng.choice((1, 5)))
    service.ctl("clear_policy", "full")


def permissions_revoked(service: ServiceUnderTest, rng: random.Random) -> None:
    service.ctl("clear_permissions", "guest")
    service.ctl("close_all_connections", "permissions have changed")
    time.sleep(rng.choice((1, 4)))
    service.ctl("set_permissions", "guest", ".*", ".*", ".*")
