"""For programs without an event loop: the core on a thread of its own."""

from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Self

from stablediffusiond.client import fork
from stablediffusiond.client.background_loop import BackgroundLoop
from stablediffusiond.client.core import Core, Options, asked
from stablediffusiond.client.deadline import Deadline
from stablediffusiond.client.job import Job
from stablediffusiond.messages.request import Request
from stablediffusiond.messages.status import ServiceStatus
from stablediffusiond.settings import Settings, load

if TYPE_CHECKING:
    import PIL.Image


class Client:
    """Connects when it has to: to the broker with the first job, to the response daemon with the first ``submit``.

    May be used from many threads and for many jobs at a time. In a process that is forked it begins anew, with a queue
    of its own; jobs are read where they were submitted.

    Wherever there is a ``timeout_seconds``, ``TimedOut`` is raised when it has passed, whatever is waited for.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        progress: bool = False,
        previews: bool = False,
        reconnect_seconds: float = 60,
    ) -> None:
        """Use ``settings``, by default those of the daemons on this machine.

        ``progress`` asks for ``Progress`` events, ``previews`` for ``Preview`` events. A connection that has worked and
        is lost is made again for ``reconnect_seconds``; the first one is tried once.

        Raises:
            SettingsError: there is a settings file, and it cannot be used.
        """
        self._options = Options(settings or load(), progress, previews, reconnect_seconds)
        self._closed = False
        self._loop, self._core = BackgroundLoop(), Core(self._options)
        fork.watch(self._begin_anew)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def queue(self) -> str:
        """Where the replies to this client's jobs go. Who knows its name can read them."""
        return self._core.queue

    def close(self) -> None:
        """Leave. Jobs that have not ended are drawn all the same; their pictures wait in ``queue`` for seven days."""
        self._closed = True
        self._loop.stop(self._core.close)

    def connect(self, *, timeout_seconds: float | None = None) -> None:
        """Connect now, to both.

        Raises:
            ResponsesAway: no response daemon to listen to.
            BrokerError: the broker cannot be reached, or refuses us.
        """
        self._loop.run(self._core.connect(Deadline(timeout_seconds)))

    def submit(
        self,
        request: Request | Mapping[str, object] | None = None,
        /,
        *,
        timeout_seconds: float | None = None,
        **fields: object,
    ) -> Job:
        """Put a job into the queue: a ``Request``, or its fields in any known spelling (docs/protocol.md).

        Fields are given by name, and then an ``image``, that of a ControlNet too, is a picture of Pillow's, a path, a
        file open for reading, bytes, base64 or an array, and ``like`` is a picture's file (a path, an open one, bytes):
        what it says of how it was drawn is taken, but for the fields beside it. Or in one mapping, which others may
        have written: it opens no files. Returns when the broker has confirmed that it has the job.

        Raises:
            InvalidRequest: before anything is sent; ``field`` says where.
            ResponsesAway: no response daemon to listen to.
            BrokerError: the broker cannot be reached, refuses us, or has no such queue.
        """
        what, core, loop = asked(request, fields), self._core, self._loop
        replies = loop.run(core.submit(what, Deadline(timeout_seconds)), core.replies.forget)
        return Job(what, replies, core, loop)

    def enqueue(
        self,
        request: Request | Mapping[str, object] | None = None,
        /,
        *,
        timeout_seconds: float | None = None,
        **fields: object,
    ) -> str:
        """As ``submit``, for a program that does not wait: the replies go to the queue ``results``. Returns the id."""
        what = asked(request, fields)
        self._loop.run(self._core.enqueue(what.request, Deadline(timeout_seconds)))
        return what.request.id

    def draw(
        self,
        request: Request | Mapping[str, object] | None = None,
        /,
        *,
        timeout_seconds: float | None = None,
        **fields: object,
    ) -> "list[PIL.Image.Image]":
        """Submit a job, wait, and return its pictures in order.

        When this raises, the job is forgotten; it is also cancelled, unless its id was of your choosing.

        Raises:
            JobFailed: with the ``code`` of the reply.
            StableDiffusiondError: what ``submit`` and ``Job.events`` raise.
        """
        images = self._loop.run(self._core.draw(asked(request, fields), Deadline(timeout_seconds)))
        return [image.picture() for image in images]

    def cancel(self, job_id: str, *, timeout_seconds: float | None = None) -> None:
        """Have the job stopped at its next step, or dropped when its turn comes; its last event is then ``Failed``.

        Does nothing for a job that has ended, or that no daemon knows.

        Raises:
            BrokerError: the broker cannot be reached.
        """
        self._loop.run(self._core.cancel(job_id, Deadline(timeout_seconds)))

    def status(self, *, offer: bool = False, timeout_seconds: float | None = None) -> ServiceStatus:
        """How the service is: its queues, and the answers of the request daemons that come within two seconds.

        With ``offer`` each says, too, what requests may name: samplers, LoRAs, embeddings, ControlNets.

        Raises:
            BrokerError: the broker cannot be reached.
        """
        return self._loop.run(self._core.status(Deadline(timeout_seconds), offer=offer))

    def _begin_anew(self) -> None:
        """In a forked child."""
        self._loop.disown(self._core.descriptors)
        fork.disown(self._core, ())
        self._loop, self._core = BackgroundLoop(), Core(self._options)
        if self._closed:
            self.close()
