"""An AMQP channel of pika whose answers can be awaited, and which ends as a whole.

It ends when the broker closes it, when its connection ends, or when its consumer is cancelled (its queue was deleted).
What was being waited for then fails, and ``lost`` says why. A channel is never reopened; its user opens
another one, and settles no delivery of the old one there.
"""

import asyncio
import re
from collections.abc import Callable
from typing import Any, Final, TypeVar

from pika import exceptions
from pika.channel import Channel as PikaChannel

from stablediffusiond.errors import BrokerError, BrokerFailed, BrokerLost, BrokerRefused, QueueMismatch, QueueMissing

T = TypeVar("T")

#: How long the broker may take to answer: a quorum queue without a leader may not answer at all.
ANSWER_SECONDS: Final = 30.0
_TOO_LARGE: Final = re.compile(r"message size \d+ is larger than (?:configured )?max(?:imum)? size (\d+)")
_INTERNAL_ERROR: Final = 541
_BY_REPLY_CODE: Final[dict[int, type[BrokerError]]] = {403: BrokerRefused, 404: QueueMissing, 406: QueueMismatch}


class AwaitableChannel:
    """The base of ``Channel``."""

    def __init__(self, channel: PikaChannel) -> None:
        self._channel = channel
        #: Done, with the reason, as soon as this channel is of no use any more.
        self.lost: asyncio.Future[BrokerError] = asyncio.get_running_loop().create_future()
        self._waiting: set[asyncio.Future[Any]] = set()
        channel.add_on_close_callback(self._on_close)

    async def close(self) -> None:
        """Close; deliveries that were not settled go back to their queues. Never raises."""
        self.abandon(BrokerLost("closed by us"))

    def abandon(self, reason: BrokerError) -> None:
        """End this channel because of ``reason``."""
        self._fail(reason)
        if self._channel.is_open:
            self._channel.close()

    async def _call(self, send: Callable[[Callable[[Any], None]], object]) -> Any:
        """Send one method and wait for its answer: pika's callbacks as one awaitable."""
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        return await self._await(answer, lambda: send(lambda frame: settle(answer, frame)))

    async def _await(self, answer: asyncio.Future[T], send: Callable[[], object]) -> T:
        if self.lost.done():
            raise self.lost.result()
        self._waiting.add(answer)
        try:
            send()
            async with asyncio.timeout(ANSWER_SECONDS):
                return await answer
        except TimeoutError:
            reason = BrokerLost(f"no answer for {ANSWER_SECONDS:.0f} s")
            self.abandon(reason)
            raise reason from None
        except exceptions.AMQPError as error:
            raise BrokerLost(str(error) or type(error).__name__) from None
        finally:
            self._waiting.discard(answer)

    def _on_close(self, _: PikaChannel, error: Exception) -> None:
        if isinstance(error, exceptions.ChannelClosedByBroker):
            if found := _TOO_LARGE.search(error.reply_text):
                self._on_too_large(int(found[1]))
                self._fail(BrokerLost(error.reply_text))  # the others shared the channel, and did nothing wrong
                return
            self._fail(_BY_REPLY_CODE.get(error.reply_code, BrokerLost)(error.reply_text))
        else:
            self._fail(why_lost(error))

    def _fail(self, reason: BrokerError) -> None:
        if not self.lost.done():
            self.lost.set_result(reason)
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_exception(reason)

    def _on_too_large(self, most: int) -> None:
        """The channel was closed because of a message with more than ``most`` bytes."""


def why_lost(error: BaseException) -> BrokerLost:
    """pika's reason for the end of a connection, as one of our errors."""
    if isinstance(error, exceptions.ConnectionClosedByBroker) and error.reply_code == _INTERNAL_ERROR:
        return BrokerFailed(error.reply_text)
    return BrokerLost(str(error) or type(error).__name__)


def settle(answer: asyncio.Future[T], value: T) -> None:
    """Set the result, unless its waiter was cancelled or got the error of a lost channel."""
    if not answer.done():
        answer.set_result(value)
