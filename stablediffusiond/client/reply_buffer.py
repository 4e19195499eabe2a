"""The replies that have come and were not read yet, job by job. Threads meet here; no I/O.

The listener's thread puts replies in, any number of the program's threads take them out. A reply is acked when it is
handed out, so a program that is busy elsewhere leaves its pictures with the broker. But the daemon stops sending when a
few replies are unacked, and the one that a thread waits for may be behind those of a job that nobody reads yet. So
while anybody waits, whatever comes is acked at once and kept here.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from stablediffusiond.client.events import Event, Image, Preview
from stablediffusiond.errors import InvalidRequest, ResponsesAway, TimedOut
from stablediffusiond.messages.replies import Done, Failed, Progress

Ack = Callable[[], None]


@dataclass(eq=False)
class _BufferedReply:
    event: Event
    ack: Ack


@dataclass
class _JobReplies:
    """The replies to one job."""

    waiting: deque[_BufferedReply] = field(default_factory=deque)
    latest: dict[str, Event] = field(default_factory=dict)  #: progress and previews: only the newest of each counts
    seen: set[str] = field(default_factory=set)  #: indices of pictures, and the end
    early_end: _BufferedReply | None = None  #: ``Done``, come before the last picture

    def add(self, reply: _BufferedReply) -> None:
        """The end comes last. A connection that broke may give its pictures back when ``Done`` is past them."""
        if isinstance(reply.event, Done):
            self.early_end = reply
        else:
            self.waiting.append(reply)
        end = self.early_end
        if end is not None and isinstance(end.event, Done) and len(self.seen) > end.event.images:
            self.waiting.append(end)
            self.early_end = None


class ReplyBuffer:
    """Made once a client; safe from any thread."""

    def __init__(self) -> None:
        lock = threading.Lock()
        self._arrived = threading.Condition(lock)
        self._wanted = threading.Condition(lock)
        self._jobs: dict[str, _JobReplies] = {}
        self._unacked: set[_BufferedReply] = set()
        self._waiting = 0
        self._failures = 0
        self._failure = ResponsesAway("")
        self._closed = False

    def open(self, job_id: str) -> None:
        """Expect replies to ``job_id``.

        Raises:
            InvalidRequest: they are expected already.
        """
        with self._arrived:
            if job_id in self._jobs:
                raise InvalidRequest(f"a job {job_id!r} of this client is under way", field="id")
            self._jobs[job_id] = _JobReplies()

    def forget(self, job_id: str) -> None:
        """The job was never published."""
        with self._arrived:
            self._jobs.pop(job_id, None)

    def __len__(self) -> int:
        """Jobs whose end nobody has read."""
        return len(self._jobs)

    # The listener's side

    def put(self, event: Event, ack: Ack) -> None:
        """Keep ``event`` for its reader. Repeats, and replies to jobs that are not expected, are acked and dropped."""
        with self._arrived:
            job = self._jobs.get(event.id)
            if job is None or (key := _key(event)) in job.seen:
                ack()
                return
            if isinstance(event, Progress | Preview):
                job.latest[key] = event
            else:
                job.seen.add(key)
                job.add(reply := _BufferedReply(event, ack))
                self._unacked.add(reply)
            if self._waiting:
                self._ack_all()
            self._arrived.notify_all()

    def fail(self, error: ResponsesAway) -> None:
        """Raise ``error`` in every thread that waits now."""
        with self._arrived:
            self._failures += 1
            self._failure = error
            self._arrived.notify_all()

    def wait_until_wanted(self) -> bool:
        """Wait until a thread waits for a reply; False once the buffer is closed."""
        with self._wanted:
            self._wanted.wait_for(lambda: self._waiting or self._closed)
            return not self._closed

    # The program's side

    def take(self, job_id: str, deadline: float | None) -> Event | None:
        """The next event of the job, as soon as there is one; None after its end.

        ``deadline`` is a moment of ``time.monotonic``, in seconds.

        Raises:
            TimedOut: the deadline came first.
            ResponsesAway: the response daemon cannot be reached, or the client was closed.
        """
        with self._arrived:
            while True:
                job = self._jobs.get(job_id)
                if job is None:
                    return None
                if job.latest:
                    return job.latest.pop(next(iter(job.latest)))
                if job.waiting:
                    return self._take_next(job_id, job)
                self._wait(job_id, deadline)

    def close(self) -> None:
        """Nothing comes any more."""
        with self._arrived:
            self._closed = True
            self._arrived.notify_all()
            self._wanted.notify_all()

    def _take_next(self, job_id: str, job: _JobReplies) -> Event:
        reply = job.waiting.popleft()
        if reply in self._unacked:
            self._unacked.discard(reply)
            reply.ack()
        if isinstance(reply.event, Done | Failed):
            del self._jobs[job_id]
            self._arrived.notify_all()  # another thread may wait for the same job
        return reply.event

    def _wait(self, job_id: str, deadline: float | None) -> None:
        """Wait until something has changed."""
        if self._closed:
            raise ResponsesAway("the client is closed")
        self._ack_all()
        failures = self._failures
        self._waiting += 1
        self._wanted.notify_all()
        try:
            in_time = self._arrived.wait(None if deadline is None else max(0.0, deadline - time.monotonic()))
        finally:
            self._waiting -= 1
        if self._failures != failures:
            raise self._failure
        if not in_time:
            raise TimedOut(f"job {job_id} has not ended in the time given")

    def _ack_all(self) -> None:
        for reply in self._unacked:
            reply.ack()
        self._unacked.clear()


def _key(event: Event) -> str:
    match event:
        case Image():
            return f"image {event.facts.index}"
        case Preview():
            return f"preview {event.facts.index}"
        case Progress():
            return "progress"
        case Done() | Failed():
            return "end"
