"""Faults of single nodes of a cluster, and of all of them at once; their disks keep what was written."""

import random
import time
from concurrent.futures import ThreadPoolExecutor

from tests.faults.service_under_test import ServiceUnderTest
from tools.private_broker import PrivateBroker
from tools.private_cluster import PrivateCluster


def kill_node(service: ServiceUnderTest, rng: random.Random) -> None:
    """Of a cluster, any node: in turn it leads a queue or follows, and has clients or none."""
    node = rng.choice(cluster_of(service).nodes)
    node.kill()
    time.sleep(rng.choice((0, 3, 10)))
    node.start()


def node_stands_still(service: ServiceUnderTest, rng: random.Random) -> None:
    """Its connections stay open and nothing is answered; then it is started anew, as docs/operations.md says."""
    node = rng.choice(cluster_of(service).nodes)
    node.pause()
    time.sleep(rng.choice((2, 12)))
    node.resume()
    node.restart()


def all_nodes_killed(service: ServiceUnderTest, _: random.Random) -> None:
    cluster = cluster_of(service)
    with ThreadPoolExecutor(len(cluster.nodes)) as pool:
        list(pool.map(PrivateBroker.kill, cluster.nodes))
    cluster.start_all()


def cluster_of(service: ServiceUnderTest) -> PrivateCluster:
    if service.cluster is None:
        raise ValueError("this fault is one of a cluster")
    return service.cluster
