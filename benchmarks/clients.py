"""Many clients at once: what a hundred of them that stall cost the others, and what they all cost in memory.

    python benchmarks/clients.py [--clients 1000] [--stalled 100] [--replies 10] [--rounds 5] [--output FILE.json]

A private broker and the response daemon; each client has a queue, and acks by hand, as the library does. Replies are
put into the queues beforehand and wait there, since nobody acks yet; the clock runs from the first ack to the last
reply. Rounds with and without readers that stall take turns. At the end one client more, which never reads, is sent
200 MB.
"""

import contextlib
import resource
import selectors
import socket
import statistics
import struct
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import report
from benchmarks.socket_clients import Client, Publisher
from tools.daemons import Daemon, response_daemon
from tools.private_broker import PrivateBroker

#: No line of ours has one inside, so that a reader can count replies by them.
_NEWLINE: Final = b"\n"
_UNREAD_BYTES: Final = 400_000  #: about a picture of 512 x 512
_AT_ONCE: Final = 200  #: publishes that wait for their confirm
_PATIENCE_SECONDS: Final = 300
_RESET: Final = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class Round:
    """Replies to those who read, from the first ack to the last reply."""

    replies_a_second: float
    daemon_cpu_seconds: float
    resident_megabytes: float


@dataclass(frozen=True)
class Load:
    """What a round brings to each of those who read."""

    replies: int
    size: int  #: of each, in bytes


class ConnectedClients:
    """All clients, and the daemon that they are served by."""

    def __init__(self, daemon: Daemon, publisher: Publisher) -> None:
        self._port = daemon.port()
        self._process = psutil.Process(daemon.process.pid)
        self._publisher = publisher

    def resident_megabytes(self) -> float:
        return float(self._process.memory_info().rss) / 1e6

    def join(self, queues: Iterable[str], *, read: bool = True) -> list[Client]:
        """Clients that listen, each to one of ``queues``."""
        clients = [Client(self._port, queue, reads=read) for queue in queues]
        not_listening = {client.socket: b"" for client in clients}
        with contextlib.closing(selectors.DefaultSelector()) as selector:
            for listening in not_listening:
                selector.register(listening, selectors.EVENT_READ)
            for came in _ready(selector, lambda: bool(not_listening)):
                # Byte by byte, so that nothing is read for those who are not to read.
                not_listening[came] += came.recv(1)
                if not_listening[came].endswith(_NEWLINE):
                    if b'"listening"' in not_listening[came]:
                        selector.unregister(came)
                        del not_listening[came]
                    else:
                        not_listening[came] = b""  # the broker has much to do
        return clients

    def fill(self, clients: list[Client], load: Load) -> None:
        """Put replies in for each, a few of which go out to it at once."""
        for _ in range(load.replies):
            self._publisher.put((client.queue for client in clients), load.size)

    def waiting(self, client: Client) -> int:
        """Replies in its queue that it was not sent."""
        return self._publisher.waiting(client)

    def serve(self, clients: list[Client], replies: int) -> Round:
        """Take the ``replies`` that wait for each of ``clients``."""
        by_socket = {client.socket: client for client in clients}
        expected = {client.socket: client.replies + replies for client in clients}
        before = self._process.cpu_times()
        began = time.perf_counter()
        with contextlib.closing(selectors.DefaultSelector()) as selector:
            for listening in by_socket:
                selector.register(listening, selectors.EVENT_READ)
            for came in _ready(selector, lambda: bool(expected)):
                client = by_socket[came]
                client.receive()
                client.ack()
                if client.replies == expected[came]:
                    selector.unregister(came)
                    del expected[came]
        seconds = time.perf_counter() - began
        after = self._process.cpu_times()
        cpu_seconds = after.user + after.system - before.user - before.system
        return Round(len(clients) * replies / seconds, cpu_seconds, self.resident_megabytes())


def _ready(selector: selectors.BaseSelector, needed: Any) -> Iterator[socket.socket]:
    """Sockets that can be read, as long as ``needed`` says so."""
    while needed():
        if not (events := selector.select(_PATIENCE_SECONDS)):
            raise SystemExit(f"nothing came for {_PATIENCE_SECONDS} s")
        for key, _ in events:
            if isinstance(key.fileobj, socket.socket):
                yield key.fileobj


def take_turns(
    connected: ConnectedClients, others: list[Client], stalled: int, load: Load, rounds: int
) -> dict[str, Any]:
    """Rounds with readers that stall and rounds with as many that are idle."""
    made: dict[bool, list[Round]] = {False: [], True: []}
    for number in range(rounds):
        for stall in (False, True) if number % 2 else (True, False):
            kind = "stalled" if stall else "idle"
            rest = connected.join((f"results.{kind}-{n}" for n in range(stalled)), read=not stall)
            if stall and not made[True]:
                connected.fill(rest, load)
            connected.fill(others, load)
            made[stall].append(connected.serve(others, load.replies))
            print(kind, made[stall][-1], file=sys.stderr)
            if stall and not all(map(connected.waiting, rest)):
                raise SystemExit("those who should stall have read")
            for client in rest:
                client.leave()
    pairs = list(zip(made[False], made[True], strict=True))
    return {
        "replies_a_second_idle": [round(each.replies_a_second) for each in made[False]],
        "replies_a_second_stalled": [round(each.replies_a_second) for each in made[True]],
        "stalled_to_idle": round(statistics.median(b.replies_a_second / a.replies_a_second for a, b in pairs), 3),
        "cpu_stalled_to_idle": round(
            statistics.median(b.daemon_cpu_seconds / a.daemon_cpu_seconds for a, b in pairs), 3
        ),
        "resident_megabytes_idle": round(max(each.resident_megabytes for each in made[False]), 1),
        "resident_megabytes_stalled": round(max(each.resident_megabytes for each in made[True]), 1),
    }


def never_read(connected: ConnectedClients, others: list[Client], megabytes: int, load: Load) -> dict[str, Any]:
    """Memory while a client that never reads is sent ``megabytes``, a tenth at a time, and the others work."""
    reader = connected.join(["results.never-read"], read=False)
    sent = megabytes * 100_000 // _UNREAD_BYTES * 10
    resident = [connected.resident_megabytes()]
    for _ in range(10):
        connected.fill(reader, Load(megabytes * 100_000 // _UNREAD_BYTES, _UNREAD_BYTES))
        connected.fill(others, load)
        resident.append(connected.serve(others, load.replies).resident_megabytes)
    return {
        "unread_megabytes": megabytes,
        "of_its_replies_in_the_queue": round(connected.waiting(reader[0]) / sent, 3),
        "resident_megabytes_meanwhile": [round(each, 1) for each in resident],
        "growth_after_the_first_tenth": round(max(resident[2:]) - resident[1], 1),
    }


def _settings(broker: PrivateBroker, clients: int) -> dict[str, str]:
    return {
        "STABLEDIFFUSIOND_CONFIG": "",
        "STABLEDIFFUSIOND_BROKER__URL": broker.url,
        "STABLEDIFFUSIOND_RESPONSES__MAX_CONNECTIONS": str(2 * clients),  # some leave while others come
        "STABLEDIFFUSIOND_RESPONSES__STALL_SECONDS": "3600",  # they are not cut off while we look
    }


def main() -> None:
    parser = report.options(__doc__, "clients.json")
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--stalled", type=int, default=100)
    parser.add_argument("--replies", type=int, default=10, help="for each client and round")
    parser.add_argument("--kilobytes", type=int, default=30, help="of a reply; a picture of the built-in model")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--unread-megabytes", type=int, default=200)
    chosen = parser.parse_args()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    load = Load(chosen.replies, chosen.kilobytes * 1000)
    with PrivateBroker() as broker:
        settings = _settings(broker, chosen.clients)
        with response_daemon(settings) as daemon, contextlib.closing(Publisher(broker)) as publisher:
            daemon.wait_ready().wait_status("clients$")
            connected = ConnectedClients(daemon, publisher)
            alone = connected.resident_megabytes()
            began = time.perf_counter()
            others = connected.join(f"results.{n}" for n in range(chosen.clients - chosen.stalled))
            joined_seconds, joined = time.perf_counter() - began, connected.resident_megabytes()
            turns = take_turns(connected, others, chosen.stalled, load, chosen.rounds)
            unread = never_read(connected, others, chosen.unread_megabytes, Load(2, load.size))
    report.write(
        {
            "clients": chosen.clients,
            "stalled": chosen.stalled,
            "kilobytes": chosen.kilobytes,
            "seconds_to_join": round(joined_seconds, 1),
            "resident_megabytes_without_clients": round(alone, 1),
            "resident_megabytes_of_those_who_wait": round(joined, 1),
            **turns,
            **unread,
        },
        chosen.output,
    )


if __name__ == "__main__":
    main()
