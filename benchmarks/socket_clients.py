"""What ``clients`` measures with: connections to the response daemon, and a publisher that fills their queues."""

import asyncio
import socket
import struct
from collections.abc import Iterable
from typing import Final

from stablediffusiond.broker.connection import Connection
from stablediffusiond.broker.message import Message
from stablediffusiond.frames import Ack, Listen, encode_op
from stablediffusiond.settings import BrokerSettings
from tools.private_broker import PrivateBroker

#: No line of ours has one inside, so that a reader can count replies by them.
_NEWLINE: Final = b"\n"
_AT_ONCE: Final = 200  #: publishes that wait for their confirm
_RESET: Final = struct.pack("ii", 1, 0)


class Client:
    """One connection that listens to a queue of its own."""

    def __init__(self, port: int, queue: str, *, reads: bool = True) -> None:
        self.queue = queue
        self.socket = socket.socket()
        if not reads:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.connect(("127.0.0.1", port))
        self.socket.sendall(encode_op(Listen(queue=queue, encoding="binary", ack="manual")))
        self.replies = 0
        self._acked = 0

    def receive(self) -> None:
        """Read what there is."""
        data = self.socket.recv(1_000_000)
        if not data:
            raise SystemExit(f"the daemon has closed the connection of {self.queue}")
        self.replies += data.count(_NEWLINE)

    def ack(self) -> None:
        """Ack what has come."""
        acks = (encode_op(Ack(delivery=number)) for number in range(self._acked + 1, self.replies + 1))
        self.socket.sendall(b"".join(acks))
        self._acked = self.replies

    def leave(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.socket.close()


class Publisher:
    """Puts replies into queues that exist."""

    def __init__(self, broker: PrivateBroker) -> None:
        self._runner = asyncio.Runner()
        settings = BrokerSettings.model_validate({"url": broker.url})
        self._connection = self._runner.run(Connection.open(settings, "the benchmark"))
        self._channel = self._runner.run(self._connection.channel())
        self._runner.run(self._channel.confirm_publishes())

    def put(self, queues: Iterable[str], size: int) -> None:
        """A reply of ``size`` bytes into each."""
        self._runner.run(self._put(list(queues), size))

    async def _put(self, queues: list[str], size: int) -> None:
        body = b"x" * size
        for begin in range(0, len(queues), _AT_ONCE):
            batch = enumerate(queues[begin : begin + _AT_ONCE], begin)
            messages = ((queue, Message(body, "image/png", message_id=f"{queue}/{n}")) for n, queue in batch)
            await asyncio.gather(*(self._channel.publish(message, "", queue) for queue, message in messages))

    def waiting(self, client: "Client") -> int:
        """Replies in its queue that it was not sent."""
        return self._runner.run(self._channel.check_queue(client.queue))

    def close(self) -> None:
        self._runner.run(self._connection.close())
        self._runner.close()
