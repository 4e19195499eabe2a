"""Faults by name, and how often each is made beside the others when they are made at random.

A fault is a function: it breaks something of a service for a while, and leaves what can recover by itself. It may return
before that has happened, so that the next one comes into the middle of it.
"""

import random
from collections.abc import Callable
from typing import Final

from tests.faults import broker_faults, client_faults, cluster_faults, daemon_faults, disk_faults, network_faults
from tests.faults.service_under_test import ServiceUnderTest

Fault = Callable[[ServiceUnderTest, random.Random], None]

_OF_ANY_BROKER: Final[dict[Fault, int]] = {
    daemon_faults.kill_requestd: 4,
    daemon_faults.kill_requestd_at_a_failpoint: 3,
    daemon_faults.stop_requestd: 2,
    daemon_faults.hang_requestd: 2,
    daemon_faults.freeze_a_daemon: 2,
    daemon_faults.no_room_for_a_log: 1,
    daemon_faults.clock_set: 1,
    daemon_faults.poison_message: 1,
    daemon_faults.kill_responsed: 5,
    client_faults.client_reset: 8,
    client_faults.client_dies: 6,
    client_faults.client_hangs: 1,
    broker_faults.close_all_connections: 3,
    broker_faults.results_refused: 1,
    broker_faults.permissions_revoked: 1,
}
#: The faults of a broker that is one node behind proxies.
OF_A_NODE: Final[dict[Fault, int]] = {
    **_OF_ANY_BROKER,
    network_faults.connections_reset: 8,
    network_faults.connection_cut_inside_a_frame: 6,
    network_faults.silence: 3,
    network_faults.slow_line: 2,
    network_faults.late_line: 2,
    broker_faults.kill_broker: 2,
    broker_faults.restart_broker: 1,
    broker_faults.memory_alarm: 1,
    broker_faults.disk_alarm: 1,
    broker_faults.impatient_broker: 2,
    disk_faults.power_cut: 2,
}
#: Those of a broker that is three nodes.
OF_A_CLUSTER: Final[dict[Fault, int]] = {
    **_OF_ANY_BROKER,
    cluster_faults.kill_node: 8,
    cluster_faults.node_stands_still: 4,
    cluster_faults.all_nodes_killed: 1,
    disk_faults.power_cut_of_a_node: 4,
    disk_faults.power_cut_of_all_nodes: 2,
    disk_faults.lying_disk_of_a_node: 2,
    disk_faults.bits_flipped: 2,
}
#: Those of disks alone, of either.
OF_DISKS: Final[frozenset[Fault]] = frozenset(
    {
        disk_faults.power_cut,
        disk_faults.power_cut_of_a_node,
        disk_faults.power_cut_of_all_nodes,
        disk_faults.lying_disk_of_a_node,
        disk_faults.bits_flipped,
        cluster_faults.all_nodes_killed,
    }
)
#: What ends with the process of a fake denoiser: the model has no prompt for it.
OF_A_FAKE_DENOISER: Final[frozenset[Fault]] = frozenset({daemon_faults.poison_message})
