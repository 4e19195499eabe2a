"""Faults of the broker's disks. They need nodes that are ``PowerCutBroker``, but for ``bits_flipped``."""

import contextlib
import random
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from tests.faults.cluster_faults import cluster_of
from tests.faults.power_cut import PowerCutBroker
from tests.faults.service_under_test import ServiceUnderTest
from tools.private_broker import BrokerUnavailable, PrivateBroker
from tools.private_cluster import PrivateCluster

#: So much of a segment is its index, which has no checksum in RabbitMQ 3.10: docs/reliability.md.
_SEGMENT_INDEX_BYTES: Final = 8 + 4096 * 32
_MEMBERS_UP_SECONDS: Final = 8


def power_cut(service: ServiceUnderTest, rng: random.Random) -> None:
    """The one node there is loses what it had not synced."""
    _cut_power(service.broker, rng)
    service.broker.start()


def power_cut_of_a_node(service: ServiceUnderTest, rng: random.Random) -> None:
    node = rng.choice(cluster_of(service).nodes)
    _cut_power(node, rng)
    time.sleep(rng.choice((0, 3)))
    node.start()


def power_cut_of_all_nodes(service: ServiceUnderTest, rng: random.Random) -> None:
    nodes = cluster_of(service).nodes
    with ThreadPoolExecutor(len(nodes)) as pool:
        list(pool.map(_cut_power, nodes, [random.Random(rng.random()) for _ in nodes]))
    cluster_of(service).start_all()


def lying_disk_of_a_node(service: ServiceUnderTest, rng: random.Random) -> None:
    """A node comes back as it was seconds ago: its disk said that it had synced, and had not."""
    node = rng.choice(cluster_of(service).nodes)
    _cut_power(node, rng, lied_since=time.monotonic() - rng.uniform(0.5, 5))
    node.start()


def bits_flipped(service: ServiceUnderTest, rng: random.Random) -> None:
    """In what a node keeps of the queues, while it is down. It is replaced if it notices, as the manual says."""
    cluster = cluster_of(service)
    node = rng.choice(cluster.nodes)
    node.kill()
    flip_bit(rng.choice(files_of_queues(node)), rng)
    start_or_replace(cluster, node)


def start_or_replace(cluster: PrivateCluster, node: PrivateBroker) -> bool:
    """Start a node whose files may be damaged; returns whether it had to be replaced."""
    with contextlib.suppress(BrokerUnavailable):
        node.start()
        if _members_come_up(node):
            return False
    cluster.replace(node)
    return True


def files_of_queues(node: PrivateBroker) -> list[Path]:
    """The log and the segments of the quorum queues of ``node``, those that hold anything that has a checksum."""
    files = [path for suffix in ("wal", "segment") for path in node.data_folder.glob(f"*/quorum/**/*.{suffix}")]
    return sorted(path for path in files if path.stat().st_size > _not_checked(path) + 64)


def flip_bit(path: Path, rng: random.Random) -> None:
    contents = bytearray(path.read_bytes())
    contents[rng.randrange(_not_checked(path), len(contents))] ^= 1 << rng.randrange(8)
    path.write_bytes(contents)


def _not_checked(path: Path) -> int:
    return _SEGMENT_INDEX_BYTES if path.suffix == ".segment" else 0


def _members_come_up(node: PrivateBroker) -> bool:
    """Whether all queues have a living member on ``node``."""
    deadline = time.monotonic() + _MEMBERS_UP_SECONDS
    while time.monotonic() < deadline:
        online = [members for (members,) in node.queues("online")]
        if online and all(node.node in members for members in online if members):
            return True
        time.sleep(0.5)
    return False


def _cut_power(node: PrivateBroker, rng: random.Random, *, lied_since: float | None = None) -> None:
    if not isinstance(node, PowerCutBroker):
        raise TypeError("the power of this node cannot be cut")
    node.cut_power(rng, lied_since=lied_since)
