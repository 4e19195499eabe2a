"""Deliveries to one client, by the numbers under which it acks them, through every outage of the broker.

When a channel is lost, the broker redelivers what was not acked on it, and what was, if the ack was lost with it. The
client has these replies already, and is not sent them again on the same connection. A redelivery takes the place of the
lost delivery, under its old number; one that the client has acked meanwhile is acked.
"""

from collections import deque
from dataclasses import dataclass
from datetime import datetime

from stablediffusiond.broker.message import Delivery, Message, Settling

_Key = tuple[str, str | None, datetime | None, int]


@dataclass(frozen=True)
class _Unacked:
    """What is needed of a delivery to ack it: without its body, which the client has."""

    channel: Settling
    tag: int
    key: _Key | None


class ClientDeliveries:
    """Replies that were sent to one client, whose consumer has a prefetch of ``prefetch``."""

    def __init__(self, prefetch: int) -> None:
        self._numbers = 0
        self._unacked: dict[int, _Unacked] = {}
        self._lost: dict[int, _Key] = {}
        #: Those whose ack may be lost with the channel that there is: the broker waits for no more than ``prefetch``.
        self._acked: deque[_Key] = deque(maxlen=prefetch)
        #: Those that are to be acked if they come again: of the last outage, and of the one before if it was just now.
        self._in_doubt: deque[_Key] = deque(maxlen=2 * prefetch)

    def __len__(self) -> int:
        """How many the client has not acked."""
        return len(self._unacked) + len(self._lost)

    def add(self, delivery: Delivery) -> int:
        """Number ``delivery``: from 1 on, and no number twice."""
        self._numbers += 1
        self._unacked[self._numbers] = _unacked(delivery)
        return self._numbers

    def settle(self, number: int) -> bool:
        """Ack delivery ``number``, now or when it comes again. False: there never was one."""
        if (unacked := self._unacked.pop(number, None)) is not None:
            self._ack(unacked)
        elif (key := self._lost.pop(number, None)) is not None:
            self._in_doubt.append(key)
        return 0 < number <= self._numbers

    def recognise(self, delivery: Delivery) -> bool:
        """Whether the client has the reply in ``delivery`` already; it is then acked once the client has acked it."""
        key = _key(delivery.message)
        if not delivery.redelivered or key is None:
            return False
        for number, lost in self._lost.items():
            if lost == key:
                del self._lost[number]
                self._unacked[number] = _unacked(delivery)
                return True
        if key not in self._in_doubt:
            return False
        self._in_doubt.remove(key)
        self._ack(_unacked(delivery))
        return True

    def detach(self) -> None:
        """The channel is lost, and all deliveries with it; whether the last acks arrived is in doubt."""
        self._in_doubt.extend(self._acked)
        self._acked.clear()
        for number, unacked in self._unacked.items():
            if unacked.key is not None:
                self._lost[number] = unacked.key
        self._unacked.clear()

    def _ack(self, unacked: _Unacked) -> None:
        unacked.channel.ack(unacked.tag)
        if unacked.key is not None:
            self._acked.append(unacked.key)


def _unacked(delivery: Delivery) -> _Unacked:
    return _Unacked(delivery.channel, delivery.tag, _key(delivery.message))


def _key(message: Message) -> _Key | None:
    """What tells one reply from another. One without a ``message_id`` has none: it is rather sent twice than not."""
    if not message.message_id:
        return None
    return message.message_id, message.correlation_id, message.timestamp, len(message.body)
