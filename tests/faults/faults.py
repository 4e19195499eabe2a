"""Faults by name: each breaks something of a bench for a while, and leaves it as a world in which things mend themselves.

A fault may return before the mending is done: the next one then comes into the middle of it.
"""

import contextlib
import random
import signal
import socket
import struct
import time
from collections.abc import Callable
from typing import Final

from stablediffusiond.frames import Listen, encode_op
from tests.faults import disk_faults, prompts
from tests.faults.bench import Bench
from tests.faults.dying import KILLS
from tests.faults.proxy import Proxy
from tools.private_broker import PrivateBroker

Fault = Callable[[Bench, random.Random], None]


def kill_requestd(bench: Bench, chance: random.Random) -> None:
    bench.restart_requestd(number=chance.randrange(len(bench.requestds)))


def kill_requestd_in_a_phase(bench: Bench, chance: random.Random) -> None:
    """A daemon that ends itself at an exact moment of the first job that reaches it."""
    number = chance.randrange(len(bench.requestds))
    daemon = bench.restart_requestd(chance.choice(KILLS).__name__, number)
    deadline = time.monotonic() + 30
    while daemon.process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    bench.restart_requestd(number=number)


def stop_requestd(bench: Bench, chance: random.Random) -> None:
    """SIGTERM: it finishes what it has begun."""
    number = chance.randrange(len(bench.requestds))
    if (code := bench.requestds[number].stop()) not in {0, -15}:
        raise AssertionError(f"SIGTERM ended a request daemon with {code}\n{bench.requestds[number].log[-5000:]}")
    bench.restart_requestd(number=number)


def hang_requestd(bench: Bench, chance: random.Random) -> None:
    """It stands still, as with a device that never answers, until it is ended as by systemd's watchdog."""
    number = chance.randrange(len(bench.requestds))
    bench.requestds[number].process.send_signal(signal.SIGSTOP)
    time.sleep(chance.choice((1, 4, 12)))
    bench.restart_requestd(number=number)


def freeze_a_daemon(bench: Bench, chance: random.Random) -> None:
    """It stands still and goes on, as with its machine; meanwhile the broker may have given it up."""
    process = chance.choice((*bench.requestds, bench.responsed)).process
    process.send_signal(signal.SIGSTOP)
    time.sleep(chance.choice((1, 4, 25)))
    process.send_signal(signal.SIGCONT)


def no_room_for_a_log(bench: Bench, chance: random.Random) -> None:
    bench.restart_requestd("unheard", chance.randrange(len(bench.requestds)))


def clock_set(bench: Bench, chance: random.Random) -> None:
    """A daemon whose clock is set by hours with each UNet call of a job that has a deadline."""
    bench.restart_requestd("clock_jumps", chance.randrange(len(bench.requestds)))


def poison(bench: Bench, _: random.Random) -> None:
    """A job that ends whoever begins it; the daemons are started again each time, until it is given up."""
    job_id = bench.submit(prompts.POISON)
    deadline = time.monotonic() + 120
    while not bench.books.has_ended(job_id) and time.monotonic() < deadline:
        time.sleep(0.05)
        bench.revive()


def kill_responsed(bench: Bench, _: random.Random) -> None:
    bench.restart_responsed()


def client_reset(bench: Bench, _: random.Random) -> None:
    """The client breaks its connection in the middle of what comes, with replies unacked."""
    bench.reader.reset()


def client_dies(bench: Bench, chance: random.Random) -> None:
    """Another reader of the same queue takes some replies, acks none, and is gone with a reset."""
    with _greedy_reader(bench) as stream:
        stream.settimeout(2)
        with contextlib.suppress(OSError):
            for _ in range(chance.randrange(1, 4)):
                stream.recv(chance.randrange(100, 20_000))
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def client_hangs(bench: Bench, _: random.Random) -> None:
    """Another reader of the same queue stops reading, and keeps its connection until it is cut off."""
    with _greedy_reader(bench) as stream:
        stream.settimeout(15)
        time.sleep(6)
        with contextlib.suppress(OSError):
            while stream.recv(65_536):
                pass


def connections_reset(bench: Bench, chance: random.Random) -> None:
    _path(bench, chance).reset()


def connection_cut_inside_a_frame(bench: Bench, chance: random.Random) -> None:
    _path(bench, chance).cut_after(chance.randrange(1, 30_000))


def silence(bench: Bench, chance: random.Random) -> None:
    """Nothing passes any more, in one direction or both, for up to longer than heartbeats allow."""
    path = _path(bench, chance)
    path.silence(*chance.choice((("up",), ("down",), ("up", "down"))))
    time.sleep(chance.choice((1, 4, 25)))
    path.heal()


def slow_line(bench: Bench, chance: random.Random) -> None:
    path = _path(bench, chance)
    path.slow_down(50_000)
    time.sleep(chance.uniform(2, 8))
    path.heal()


def late_line(bench: Bench, chance: random.Random) -> None:
    path = _path(bench, chance)
    path.delay(1.0)
    time.sleep(chance.uniform(2, 8))
    path.heal()


def close_all_connections(bench: Bench, _: random.Random) -> None:
    bench.ctl("close_all_connections", "a fault made on purpose")


def kill_broker(bench: Bench, chance: random.Random) -> None:
    bench.broker.kill()
    time.sleep(chance.choice((0, 0, 5)))
    bench.broker.start()


def restart_broker(bench: Bench, _: random.Random) -> None:
    """In good order: the application is stopped and started again."""
    bench.ctl("stop_app")
    bench.ctl("start_app")


def impatient_broker(bench: Bench, chance: random.Random) -> None:
    """It closes the channel of whoever has a message for three seconds; a node with an advanced.config looks often."""
    _set_consumer_timeout(bench, 3_000)
    time.sleep(chance.choice((4, 8)))
    _set_consumer_timeout(bench, 1_800_000)


def _set_consumer_timeout(bench: Bench, milliseconds: int) -> None:
    """Channels ask for it when they begin."""
    bench.ctl("eval", f"application:set_env(rabbit, consumer_timeout, {milliseconds}).")
    bench.ctl("close_all_connections", "extending has changed")


def memory_alarm(bench: Bench, chance: random.Random) -> None:
    bench.ctl("set_vm_memory_high_watermark", "0.00001")
    time.sleep(chance.choice((1, 4, 14)))
    bench.ctl("set_vm_memory_high_watermark", "0.4")


def disk_alarm(bench: Bench, chance: random.Random) -> None:
    bench.ctl("set_disk_free_limit", str(2**50))
    time.sleep(chance.choice((1, 4)))
    bench.ctl("set_disk_free_limit", "50000000")


def results_refused(bench: Bench, chance: random.Random) -> None:
    """The results queues are full and refuse: a policy with a length limit of zero."""
    pattern = f"^{bench.topology.results}"
    bench.ctl("set_policy", "full", pattern, '{"max-length": 0, "overflow": "reject-publish"}', "--apply-to", "queues")
    time.sleep(chance.choice((1, 5)))
    bench.ctl("clear_policy", "full")


def permissions_revoked(bench: Bench, chance: random.Random) -> None:
    bench.ctl("clear_permissions", "guest")
    bench.ctl("close_all_connections", "permissions have changed")
    time.sleep(chance.choice((1, 4)))
    bench.ctl("set_permissions", "guest", ".*", ".*", ".*")


def kill_node(bench: Bench, chance: random.Random) -> None:
    """Of a cluster, any node: in turn it leads a queue or follows, and has clients or none."""
    node = chance.choice(_nodes(bench))
    node.kill()
    time.sleep(chance.choice((0, 3, 10)))
    node.start()


def node_stands_still(bench: Bench, chance: random.Random) -> None:
    """Its connections stay open and nothing is answered; then it is started anew, as docs/operations.md says."""
    node = chance.choice(_nodes(bench))
    node.pause()
    time.sleep(chance.choice((2, 12)))
    node.resume()
    node.restart()


_OF_ANY_BROKER: Final[dict[Fault, int]] = {
    kill_requestd: 4,
    kill_requestd_in_a_phase: 3,
    stop_requestd: 2,
    hang_requestd: 2,
    freeze_a_daemon: 2,
    no_room_for_a_log: 1,
    clock_set: 1,
    poison: 1,
    kill_responsed: 5,
    client_reset: 8,
    client_dies: 6,
    client_hangs: 1,
    close_all_connections: 3,
    results_refused: 1,
    permissions_revoked: 1,
}
#: The faults of a broker that is one node behind proxies, and how often each is chosen beside the others.
OF_A_NODE: Final[dict[Fault, int]] = {
    **_OF_ANY_BROKER,
    connections_reset: 8,
    connection_cut_inside_a_frame: 6,
    silence: 3,
    slow_line: 2,
    late_line: 2,
    kill_broker: 2,
    restart_broker: 1,
    memory_alarm: 1,
    disk_alarm: 1,
    impatient_broker: 2,
    disk_faults.power_cut: 2,
}
#: Likewise of one that is three.
OF_A_CLUSTER: Final[dict[Fault, int]] = {
    **_OF_ANY_BROKER,
    kill_node: 8,
    node_stands_still: 4,
    disk_faults.power_cut_of_a_node: 4,
    disk_faults.power_cut_of_all_nodes: 2,
    disk_faults.all_nodes_killed: 1,
    disk_faults.lying_disk_of_a_node: 2,
    disk_faults.bits_flipped: 2,
}


def _path(bench: Bench, chance: random.Random) -> Proxy:
    return chance.choice((bench.jobs_path, bench.replies_path, bench.client_path))


def _nodes(bench: Bench) -> list[PrivateBroker]:
    if bench.cluster is None:
        raise ValueError("this fault is one of a cluster")
    return bench.cluster.nodes


def _greedy_reader(bench: Bench) -> "contextlib.AbstractContextManager[socket.socket]":
    """A socket that listens to the client's queue and has yet to read."""
    try:
        stream = socket.create_connection(("127.0.0.1", bench.port), timeout=5)
    except OSError:
        return contextlib.closing(socket.socket())  # the daemon is down just now: this client has come too early
    with contextlib.suppress(OSError):
        stream.sendall(encode_op(Listen(queue=bench.reader.queue, encoding="binary", ack="manual", prefetch=4)))
    return contextlib.closing(stream)
