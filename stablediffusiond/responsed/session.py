"""One client, from hello to goodbye.

Two things go on at once once it listens: its lines are read, and what the queue has is written. Both end together. A
client that says nothing is a plain listener, as in 2022: it gets the results queue, pictures in base64, each acked when
it has been written out.
"""

import asyncio
import contextlib
import hmac
import logging
from collections.abc import Callable
from typing import Final

from pydantic import SecretStr

from stablediffusiond import frames
from stablediffusiond.broker.link import Link
from stablediffusiond.broker.message import Message
from stablediffusiond.broker.publisher import Publisher
from stablediffusiond.broker.topology import Topology
from stablediffusiond.errors import FramingError, OpError, StableDiffusiondError
from stablediffusiond.frames import Ack, Auth, CancelOp, Listen, Op, Ping
from stablediffusiond.messages.replies import Cancel
from stablediffusiond.responsed import lines
from stablediffusiond.responsed.client_stream import ClientGone, ClientStream, Stalled
from stablediffusiond.responsed.lines import Line
from stablediffusiond.responsed.queue_consumer import QueueConsumer
from stablediffusiond.settings import ResponseSettings

log = logging.getLogger(__name__)

_PULSE_SECONDS: Final = 15
_CANCEL_SECONDS: Final = 5
_ATTACH_SECONDS: Final = 2
_SPEAK_FIRST: Final = 'a token is asked for here; say {"op":"auth","token":"…"} first'


class HandshakeTimeout(StableDiffusiondError):
    """Raised when a client that began to speak does not say what it wants."""


class Unauthorized(StableDiffusiondError):
    """Raised when a client on TCP does not say the token, or says a wrong one."""


class Session:
    """Made by the server for each connection."""

    def __init__(
        self, stream: ClientStream, settings: ResponseSettings, topology: Topology, link: Link, publisher: Publisher
    ) -> None:
        self._stream = stream
        self._settings = settings
        self._topology = topology
        self._link = link
        self._publisher = publisher
        self._writing = asyncio.Lock()
        self._consumer: QueueConsumer | None = None
        self._plain = False
        #: Who may open a Unix socket is for the file's permissions to say.
        self._trusted = stream.is_local or settings.token is None
        self._ack_deadline: asyncio.TimerHandle | None = None
        #: Called with the type of each reply and event that the client has taken.
        self.on_written: Callable[[str], None] = lambda _: None
        #: Fails when the client acks nothing for too long.
        self._acking: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Serve the client until it or we have had enough."""
        try:
            listen = await self._hello()
            if listen is not None:
                await self._serve(listen)
        except ClientGone as error:
            log.debug("%s: %s", self._stream.peer, error)
        except Stalled as error:
            log.warning("%s is cut off, and its replies go back: %s", self._stream.peer, error)
        except FramingError as error:
            await self._say_goodbye("line_too_long", str(error))
        except HandshakeTimeout as error:
            await self._say_goodbye("handshake_timeout", str(error))
        except Unauthorized as error:
            await self._say_goodbye("unauthorized", str(error))
        finally:
            if self._ack_deadline is not None:
                self._ack_deadline.cancel()
            self._stream.close()

    # Hello

    async def _hello(self) -> Listen | None:
        """What the client wants to listen to; None if it leaves without listening."""
        line, spoke = None, False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.hello_seconds):
                line = await self._stream.line()
            spoke = line is not None
        spoke = spoke or self._stream.mid_line
        self._plain = not spoke
        self._stream.check()
        if self._plain and not self._trusted:
            raise Unauthorized(_SPEAK_FIRST)
        return await self._first_words(line) if spoke else Listen(queue=self._topology.results)

    async def _first_words(self, line: bytes | None) -> Listen | None:
        """Answer lines until one says ``listen``."""
        try:
            async with asyncio.timeout(self._settings.handshake_seconds):
                while True:
                    line = line if line is not None else await self._stream.line()
                    if line is None:
                        return None
                    op = await self._obey(line)
                    if isinstance(op, Listen):
                        return op
                    line = None
        except TimeoutError:
            raise HandshakeTimeout(f"no listen within {self._settings.handshake_seconds:g} s") from None

    # Listening

    async def _serve(self, listen: Listen) -> None:
        """Read and write at the same time, until one of them ends."""
        prefetch = listen.prefetch or self._settings.default_prefetch
        self._consumer = QueueConsumer(
            self._link,
            self._topology,
            listen.queue,
            prefetch=prefetch,
            progress=listen.progress,
            previews=listen.previews,
        )
        parts = [
            asyncio.create_task(self._consumer.run()),
            asyncio.create_task(self._write_replies(self._consumer, listen)),
            asyncio.create_task(self._read_ops(listen)),
            asyncio.create_task(self._feel_pulse()),
        ]
        waiting: set[asyncio.Future[None]] = {*parts, self._acking}
        try:
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for part in parts:
                part.cancel()
            await asyncio.wait(parts)
        for ended in done:
            ended.result()

    async def _write_replies(self, consumer: QueueConsumer, listen: Listen) -> None:
        if not self._plain:
            await self._announce(consumer, listen)
        while True:
            await self._write_next(consumer, listen)

    async def _write_next(self, consumer: QueueConsumer, listen: Listen) -> None:
        """Write one reply or event. Whoever waits for the next one holds nothing of the last: it may be large."""
        line, number = await consumer.next()
        await self._say(line, listen.encoding)
        self.on_written(str(line.head["type"]))
        if number is None:
            return
        if listen.ack == "auto":
            consumer.settle(number)
        else:
            self._expect_ack()

    async def _announce(self, consumer: QueueConsumer, listen: Listen) -> None:
        """Say that the queue is there and consumed: from now on no reply to it can be missed."""
        try:
            async with asyncio.timeout(_ATTACH_SECONDS):
                await consumer.attached.wait()
        except TimeoutError:
            reason = "the broker cannot be reached; replies will come when it is back"
            await self._say(lines.error("broker_away", reason))
        await consumer.attached.wait()
        await self._say(lines.listening(listen.queue))

    async def _read_ops(self, listen: Listen) -> None:
        """Obey, until the client says no more. One that acks nothing any more has then gone; others may still read."""
        while (line := await self._stream.line()) is not None:
            await self._obey(line)
        if listen.ack == "auto":
            await asyncio.get_running_loop().create_future()

    async def _feel_pulse(self) -> None:
        while True:
            await asyncio.sleep(_PULSE_SECONDS)
            self._stream.check()

    # Ops

    async def _obey(self, line: bytes) -> Op | None:
        """Do what one line asks for; returns it, or None if it was answered with an error."""
        try:
            op = frames.parse_op(line)
            if not self._trusted and not isinstance(op, Auth):
                raise Unauthorized(_SPEAK_FIRST)
            match op:
                case Auth(token=token):
                    self._check_token(token)
                case Listen():
                    self._check_listen(op)
                case Ack(delivery=number):
                    self._on_ack(number)
                case CancelOp(id=job_id):
                    await self._cancel(job_id)
                case Ping():
                    await self._say(lines.pong())
        except OpError as error:
            await self._say(lines.error(error.code, str(error)))
            return None
        return op

    def _check_token(self, said: SecretStr) -> None:
        """Trust the client from here on. Where no token is asked for, any is as good as none."""
        right = self._settings.token
        if not self._trusted and right is not None:
            if not hmac.compare_digest(_bytes(said), _bytes(right)):
                raise Unauthorized("the token is wrong; it is the daemon's [responses] token or token_file")
            self._trusted = True

    def _check_listen(self, listen: Listen) -> None:
        if self._consumer is not None:
            raise OpError("already_listening", "one connection listens to one queue; open another")
        if not self._topology.is_results_queue(listen.queue):
            own = self._topology.results
            raise OpError("bad_queue", f"the queue must be {own!r} or '{own}.' and letters, digits, '.', '_', '-'")
        if listen.prefetch is not None and listen.prefetch > self._settings.max_prefetch:
            raise OpError("bad_op", f"prefetch must be at most {self._settings.max_prefetch}")

    def _on_ack(self, number: int) -> None:
        if self._consumer is None or not self._consumer.settle(number):
            raise OpError("unknown_delivery", f"there was no delivery {number} on this connection")
        self._expect_ack()

    async def _cancel(self, job_id: str) -> None:
        body = Cancel(cancel=job_id).model_dump_json().encode()
        message = Message(body, content_type="application/json", message_id=job_id, persistent=False)
        try:
            async with asyncio.timeout(_CANCEL_SECONDS):
                await self._publisher.publish(message, "", exchange=self._topology.control, mandatory=False)
        except TimeoutError:
            raise OpError("broker_away", f"the broker does not take the cancellation of {job_id!r} now") from None

    # Words

    async def _say(self, line: Line, encoding: frames.Encoding = "base64") -> None:
        async with self._writing:
            await self._stream.write(frames.encode(line.head, line.data, encoding))

    async def _say_goodbye(self, code: str, message: str) -> None:
        """Say why the connection is closed, to whoever still listens."""
        log.info("%s: %s: %s", self._stream.peer, code, message)
        with contextlib.suppress(ClientGone, Stalled):
            await self._say(lines.error(code, message))

    def _expect_ack(self) -> None:
        """Cut the client off if deliveries are outstanding and nothing is acked for ``stall_seconds`` from now."""
        if self._ack_deadline is not None:
            self._ack_deadline.cancel()
        loop = asyncio.get_running_loop()
        self._ack_deadline = loop.call_later(self._settings.stall_seconds, self._on_no_ack)

    def _on_no_ack(self) -> None:
        if self._consumer is not None and self._consumer.outstanding and not self._acking.done():
            reason = f"{self._consumer.outstanding} deliveries and no ack for {self._settings.stall_seconds:g} s"
            self._acking.set_exception(Stalled(reason))


def _bytes(secret: SecretStr) -> bytes:
    return secret.get_secret_value().encode(errors="surrogatepass")
