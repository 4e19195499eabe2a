"""One AMQP connection, from open to lost, as awaitables."""

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Any, Final

from pika import exceptions
from pika.channel import Channel as PikaChannel

from stablediffusiond import sandbox
from stablediffusiond.broker import awaitable_channel, tls
from stablediffusiond.broker.awaitable_channel import settle, why_lost
from stablediffusiond.broker.channel import Channel
from stablediffusiond.broker.io_services import IoServices
from stablediffusiond.broker.lenient_decoding import LenientConnection
from stablediffusiond.broker.parameters import is_external, parameters, with_url
from stablediffusiond.broker.url import parse, shown
from stablediffusiond.errors import BrokerAway, BrokerError, BrokerForbidden, BrokerLost, BrokerRefused
from stablediffusiond.settings import BrokerSettings

# pika logs every failure several times at several levels; each comes to us as an exception, and ``link`` logs it once.
logging.getLogger("pika").setLevel(logging.CRITICAL)

#: How long a broker may take to answer connection.close.
_CLOSE_SECONDS: Final = 5.0
#: For what needs no answer, but some turns of the loop.
_DROP_SECONDS: Final = 1.0


class Connection:
    """Made by ``Connection.open``; ends once, and then ``lost`` says why."""

    def __init__(self, name: str) -> None:
        self.name = name
        #: Done, with the reason, as soon as this connection is of no use any more.
        self.lost: asyncio.Future[BrokerError] = asyncio.get_running_loop().create_future()
        #: Set while the broker takes publishes: cleared by a memory or disk alarm.
        self.accepting = asyncio.Event()
        self.accepting.set()
        #: Called with True and False as an alarm begins and ends.
        self.on_blocked: Callable[[bool], None] = lambda _: None
        self._services = IoServices()
        self._connection: LenientConnection | None = None
        self._ended = asyncio.Event()

    @classmethod
    async def open(cls, settings: BrokerSettings, name: str, *, first: int = 0) -> "Connection":
        """Connect once, to the first of the nodes in the URL that lets us in, beginning with number ``first``.

        Raises:
            BrokerAway: no answer, or not one of RabbitMQ. Trying again may help.
            BrokerForbidden: our own service's sandbox does not let us there.
            BrokerRefused: the broker refuses the user, password, virtual host or TLS.
            SettingsError: the settings cannot work.
        """
        urls = list(settings.urls)
        for url in urls:
            parse(url)  # also those that it need not come to
        failures: list[BrokerError] = []
        for url in (*urls[first % len(urls) :], *urls[: first % len(urls)]):
            try:
                return await cls._open(settings, url, name)
            except BrokerError as error:
                failures.append(await _explained(error, url))
        kinds = {type(error) for error in failures}
        kind = next((each for each in (BrokerRefused, BrokerForbidden) if each in kinds), BrokerAway)
        raise kind("; ".join(str(error) for error in failures))

    @classmethod
    async def _open(cls, settings: BrokerSettings, url: str, name: str) -> "Connection":
        self = cls(name)
        settings = with_url(settings, parse(url))
        opened: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()
        opening = LenientConnection(
            parameters(settings, url, name),
            on_open_callback=lambda _: settle(opened, None),
            on_open_error_callback=lambda _, error: settle(opened, error),
            on_close_callback=lambda _, error: self._on_close(error),
            custom_ioloop=self._services,
        )
        try:
            await asyncio.wait({opened}, timeout=settings.connect_timeout_seconds)
        except asyncio.CancelledError:
            await _give_up(opening, opened)
            raise
        if not opened.done():
            await _give_up(opening, opened)
            seconds = f"{settings.connect_timeout_seconds:g} s"
            raise BrokerAway(f"{shown(url)}: no answer for {seconds}; is RabbitMQ running there?")
        if (error := opened.result()) is not None:
            raise _why(error, settings, url)
        opening.add_on_connection_blocked_callback(lambda *_: self._set_blocked(blocked=True))
        opening.add_on_connection_unblocked_callback(lambda *_: self._set_blocked(blocked=False))
        self._connection = opening
        return self

    @property
    def descriptors(self) -> set[int]:
        """The sockets of this connection."""
        return set(self._services.descriptors)

    async def channel(self) -> Channel:
        """A channel of its own.

        Raises:
            BrokerLost: the connection has ended, or is given up because nothing comes.
        """
        opened: asyncio.Future[PikaChannel] = asyncio.get_running_loop().create_future()
        if self._connection is None or self.lost.done():
            raise BrokerLost(f"{self.name}: not connected")
        try:
            self._connection.channel(on_open_callback=lambda made: None if opened.done() else opened.set_result(made))
        except exceptions.AMQPError as error:
            raise BrokerLost(str(error) or type(error).__name__) from None
        either: set[asyncio.Future[Any]] = {opened, self.lost}
        await asyncio.wait(either, timeout=awaitable_channel.ANSWER_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if not opened.done():
            opened.cancel()
            self._lose(BrokerLost(f"no answer for {awaitable_channel.ANSWER_SECONDS:.0f} s"))
            self.abandon()
            raise self.lost.result()
        return Channel(opened.result())

    async def close(self, within_seconds: float = _CLOSE_SECONDS) -> None:
        """Close, and wait until the broker has answered; if it does not, no longer than that. Never raises."""
        if self._connection is None:
            return
        if self._connection.is_open:
            self._connection.close()
        try:
            async with asyncio.timeout(within_seconds):
                await self._ended.wait()
        except TimeoutError:
            self._connection.drop()
            await self._ended.wait()
        except asyncio.CancelledError:
            self._connection.drop()
            raise

    def abandon(self) -> None:
        """Begin to close without waiting: for a connection that is half dead. From now on it counts as lost."""
        if self._connection is not None and self._connection.is_open:
            self._connection.close()
        self._lose(BrokerLost("given up: a part of it was lost"))

    def _set_blocked(self, *, blocked: bool) -> None:
        if blocked:
            self.accepting.clear()
        else:
            self.accepting.set()
        self.on_blocked(blocked)

    def _on_close(self, error: BaseException) -> None:
        """pika's, of a connection that was open: its socket is closed."""
        self._lose(error)
        self._ended.set()

    def _lose(self, error: BaseException) -> None:
        if not self.lost.done():
            self.lost.set_result(error if isinstance(error, BrokerLost) else why_lost(error))
        self.accepting.set()  # nothing shall wait on a connection that is gone


async def _give_up(opening: LenientConnection, opened: asyncio.Future[BaseException | None]) -> None:
    """End a try to connect, which would else go on and leave a connection open that nothing uses."""
    opening.drop()
    await asyncio.wait({opened}, timeout=_DROP_SECONDS)


async def _explained(error: BrokerError, url: str) -> BrokerError:
    """``error``, unless it is our own unit that does not let us there."""
    if not isinstance(error, BrokerAway):
        return error
    closed = await sandbox.closed_to(parse(url).host)
    return BrokerForbidden(f"{error}; {closed}") if closed else error


def _why(error: BaseException, settings: BrokerSettings, url: str) -> BrokerError:
    """Why a try to connect failed, in one line that says what to look at."""
    where = shown(url)
    cause = _innermost(error)
    if isinstance(cause, exceptions.ProbableAuthenticationError | exceptions.AuthenticationError):
        if is_external(settings, url):
            return BrokerRefused(f"{where}: no user belongs to our certificate ([broker] certificate_file)")
        return BrokerRefused(f"{where}: wrong user or password ([broker] url)")
    if isinstance(cause, exceptions.ProbableAccessDeniedError):
        return BrokerRefused(f"{where}: no such virtual host, or not for this user ([broker] url)")
    if isinstance(cause, exceptions.ConnectionClosedByBroker) and cause.reply_code in {403, 530}:
        return BrokerRefused(f"{where}: {cause.reply_text}")
    if (complaint := tls.complaint(cause)) is not None:
        return BrokerRefused(f"{where}: TLS: {complaint}")
    if isinstance(cause, socket.gaierror):
        text = f"no address is found for this host ({cause.strerror}); is it the broker's ([broker] url)?"
    else:
        text = f"{str(cause) or type(cause).__name__}; is RabbitMQ running there?"
    return BrokerAway(f"{where}: {text}")


def _innermost(error: BaseException) -> BaseException:
    """pika wraps what happened in what it was doing; the last exception of the last try is the one to report."""
    while True:
        inner = getattr(error, "exceptions", None) or getattr(error, "exception", None) or error.args[:1]
        last = inner[-1] if isinstance(inner, list | tuple) and inner else inner
        if not isinstance(last, BaseException):
            return error
        error = last
