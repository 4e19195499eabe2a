"""Publisher confirms: which publishes of a channel the broker has not answered yet, and what it answers.

https://www.rabbitmq.com/docs/confirms#publisher-confirms
"""

import asyncio
from dataclasses import dataclass

from pika.frame import Method
from pika.spec import Basic

from stablediffusiond.broker.message import Message
from stablediffusiond.errors import BrokerError, MessageTooLarge, Nacked, Unroutable


@dataclass(frozen=True)
class _Unconfirmed:
    """A publish that the broker has not answered yet."""

    confirmed: asyncio.Future[None]
    key: tuple[str | None, str]  #: message_id and routing key, by which a returned message is recognised
    size: int  #: of its body, in bytes


class Confirms:
    """The publishes of one channel, by their sequence numbers."""

    def __init__(self) -> None:
        self._published = 0
        self._unconfirmed: dict[int, _Unconfirmed] = {}
        self._returned: set[tuple[str | None, str]] = set()

    def __len__(self) -> int:
        """How many publishes wait for their confirm."""
        return len(self._unconfirmed)

    def count(self) -> None:
        """A message was published: the broker numbers all of them, whether anybody waits for the confirm or not."""
        self._published += 1

    def expect(self, message: Message, routing_key: str) -> asyncio.Future[None]:
        """The confirm of the latest publish; it fails with Unroutable, Nacked, MessageTooLarge or BrokerError."""
        confirmed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        key = (message.message_id, routing_key)
        self._unconfirmed[self._published] = _Unconfirmed(confirmed, key, len(message.body))
        return confirmed

    def on_return(self, message_id: str | None, routing_key: str) -> None:
        """The broker returns a mandatory message that no queue takes; its confirm follows."""
        self._returned.add((message_id, routing_key))

    def on_confirm(self, frame: "Method[Basic.Ack | Basic.Nack]") -> None:
        """The broker answers one publish, or all up to one."""
        last = frame.method.delivery_tag
        tags = [tag for tag in self._unconfirmed if tag <= last] if frame.method.multiple else [last]
        for tag in tags:
            publish = self._unconfirmed.pop(tag, None)
            if publish is not None and not publish.confirmed.done():
                self._settle(publish, refused=isinstance(frame.method, Basic.Nack))

    def refuse_larger_than(self, most: int) -> None:
        """The broker takes no message of more than ``most`` bytes, and has closed the channel because of one."""
        for publish in self._unconfirmed.values():
            if publish.size > most and not publish.confirmed.done():
                publish.confirmed.set_exception(MessageTooLarge(publish.size, most))

    def fail(self, reason: BrokerError) -> None:
        """The channel is closed: whether the other messages have arrived is not known."""
        for publish in self._unconfirmed.values():
            if not publish.confirmed.done():
                publish.confirmed.set_exception(reason)
        self._unconfirmed.clear()

    def _settle(self, publish: _Unconfirmed, *, refused: bool) -> None:
        confirmed, key = publish.confirmed, publish.key
        if refused:
            confirmed.set_exception(Nacked(f"the broker does not take messages for {key[1]!r}: queue full?"))
        elif key in self._returned:
            self._returned.discard(key)
            confirmed.set_exception(Unroutable(key[1]))
        else:
            confirmed.set_result(None)
