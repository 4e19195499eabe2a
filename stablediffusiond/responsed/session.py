"""One client after its handshake: operations are read and replies written at the same time, until one of both ends."""

import asyncio
from collections.abc import Callable
from typing import Final

from stablediffusiond import frames
from stablediffusiond.errors import OpError
from stablediffusiond.frames import Ack, Auth, CancelOp, Listen, Op, Ping
from stablediffusiond.responsed import lines
from stablediffusiond.responsed.cancellations import CancelPublisher
from stablediffusiond.responsed.client_stream import ClientStream
from stablediffusiond.responsed.frame_writer import Stalled
from stablediffusiond.responsed.queue_consumer import QueueConsumer

_CHECK_INTERVAL_SECONDS: Final = 15
_ATTACH_TIMEOUT_SECONDS: Final = 2


class Session:
    """Writes what ``consumer`` has to ``stream``, as ``listen`` asks."""

    def __init__(
        self,
        stream: ClientStream,
        consumer: QueueConsumer,
        listen: Listen,
        cancellations: CancelPublisher,
        *,
        plain: bool,
        stall_seconds: float,
        on_written: Callable[[str], None],
    ) -> None:
        """``on_written`` is called with the type of each reply and event that the client has taken.

        ``plain``: the client has sent nothing, and is not told that its queue is consumed.
        """
        self._stream = stream
        self._consumer = consumer
        self._listen = listen
        self._cancellations = cancellations
        self._plain = plain
        self._write = stream.write_first if plain else stream.write
        self._stall_seconds = stall_seconds
        self._on_written = on_written
        self._ack_deadline: asyncio.TimerHandle | None = None
        #: Fails when deliveries are outstanding, and none is acked for ``stall_seconds``.
        self._ack_stalled: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Serve the client until it leaves, or has to."""
        tasks = [
            asyncio.create_task(self._consumer.run()),
            asyncio.create_task(self._write_replies()),
            asyncio.create_task(self._read_operations()),
            asyncio.create_task(self._check_connection()),
        ]
        ends: set[asyncio.Future[None]] = {*tasks, self._ack_stalled}
        try:
            done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if self._ack_deadline is not None:
                self._ack_deadline.cancel()
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        for ended in done:
            ended.result()

    # Replies

    async def _write_replies(self) -> None:
        if not self._plain:
            await self._announce()
        while True:
            await self._write_next()

    async def _announce(self) -> None:
        """Send ``listening``: the queue is there and consumed; from now on no reply to it can be missed."""
        try:
            async with asyncio.timeout(_ATTACH_TIMEOUT_SECONDS):
                await self._consumer.attached.wait()
        except TimeoutError:
            reason = "the broker cannot be reached; replies will come when it is back"
            await self._stream.write(lines.error("broker_away", reason).encode())
        await self._consumer.attached.wait()
        await self._stream.write(lines.listening(self._listen.queue).encode())

    async def _write_next(self) -> None:
        """Write one reply or event. Nothing of it is held while the next one is waited for: it may be large."""
        line, number = await self._consumer.next()
        await self._write(line.encode(self._listen.encoding))
        self._write = self._stream.write
        self._on_written(str(line.head["type"]))
        if number is None:
            return
        if self._listen.ack == "auto":
            self._consumer.settle(number)
        else:
            self._restart_ack_deadline()

    def _restart_ack_deadline(self) -> None:
        if self._ack_deadline is not None:
            self._ack_deadline.cancel()
        self._ack_deadline = asyncio.get_running_loop().call_later(self._stall_seconds, self._on_ack_deadline)

    def _on_ack_deadline(self) -> None:
        if self._consumer.outstanding and not self._ack_stalled.done():
            reason = f"{self._consumer.outstanding} deliveries and no ack for {self._stall_seconds:g} s"
            self._ack_stalled.set_exception(Stalled(reason))

    async def _check_connection(self) -> None:
        """Notice a client that has gone while nothing is written to it."""
        while True:
            await asyncio.sleep(_CHECK_INTERVAL_SECONDS)
            self._stream.check()

    # Operations

    async def _read_operations(self) -> None:
        """End with a client that sends no more and acks by hand: it could ack nothing. Any other may still read."""
        while (line := await self._stream.line()) is not None:
            await self._answer(line)
        if self._listen.ack == "auto":
            await asyncio.get_running_loop().create_future()

    async def _answer(self, line: bytes) -> None:
        """Execute the operation in one line; one that cannot be executed is answered with an error."""
        try:
            await self._execute(frames.parse_op(line))
        except OpError as error:
            await self._stream.write(lines.error(error.code, str(error)).encode())

    async def _execute(self, op: Op) -> None:
        match op:
            case Listen():
                raise OpError("already_listening", "one connection listens to one queue; open another")
            case Ack(delivery=number):
                self._ack(number)
            case CancelOp(id=job_id):
                await self._cancellations.publish(job_id)
            case Ping():
                await self._stream.write(lines.pong().encode())
            case Auth():
                pass  # it is authorized already

    def _ack(self, number: int) -> None:
        if not self._consumer.settle(number):
            raise OpError("unknown_delivery", f"there was no delivery {number} on this connection")
        self._restart_ack_deadline()
