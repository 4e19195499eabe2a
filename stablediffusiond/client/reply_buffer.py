"""The replies that have come and were not read yet, job by job. Tasks of one event loop meet here; no I/O.

The listener puts replies in, readers take them out. A reply is acked when it is handed out, so a program that is busy
elsewhere leaves its pictures with the broker. But the daemon stops sending when a few replies are unacked, and the one
that a reader waits for may be behind those of a job that is not read yet. So while there is a reader, whatever comes is
acked at once and kept here. A job that is forgotten keeps nothing, and what still comes for it is acked and dropped.
"""

from stablediffusiond.client.events import Event, Preview
from stablediffusiond.client.job_replies import Ack, BufferedReply, JobReplies, key
from stablediffusiond.client.readers import Readers
from stablediffusiond.errors import InvalidRequest, ResponsesAway
from stablediffusiond.messages.replies import Done, Failed, Progress


class ReplyBuffer:
    """Made once a client."""

    def __init__(self) -> None:
        self._jobs: dict[str, JobReplies] = {}
        #: Jobs that were forgotten, and of whose end nothing was heard yet.
        self._forgotten: set[str] = set()
        self._unacked: set[BufferedReply] = set()
        self._readers = Readers()

    def open(self, job_id: str) -> JobReplies:
        """Expect replies to ``job_id``.

        Raises:
            InvalidRequest: they are expected already.
        """
        if job_id in self._jobs:
            raise InvalidRequest(f"a job {job_id!r} of this client is under way", field="id")
        self._forgotten.discard(job_id)
        self._jobs[job_id] = replies = JobReplies(job_id)
        return replies

    def forget(self, replies: JobReplies, *, goes_on: bool = True) -> None:
        """The job will not be read any more. ``goes_on``: it was published, so there may be replies to come."""
        if replies.ended:
            return
        self._end(replies)
        for reply in replies.drop():
            self._ack(reply)
        if goes_on and "end" not in replies.seen:
            self._forgotten.add(replies.job_id)

    def __len__(self) -> int:
        """Jobs whose end has not come, or was not read: replies to these may be in the queue."""
        return len(self._jobs) + len(self._forgotten)

    # The listener's side

    def put(self, event: Event, ack: Ack) -> None:
        """Keep ``event`` for its reader. Repeats, and replies to jobs that are not expected, are acked and dropped."""
        replies = self._jobs.get(event.id)
        if replies is None or (name := key(event)) in replies.seen:
            if isinstance(event, Done | Failed):
                self._forgotten.discard(event.id)
            ack()
            return
        if isinstance(event, Progress | Preview):
            replies.latest[name] = event
        else:
            replies.seen.add(name)
            replies.add(reply := BufferedReply(event, ack))
            self._unacked.add(reply)
        self._readers.wake(replies)
        if self._readers:
            self._ack_all()

    def fail(self, error: ResponsesAway) -> None:
        """Raise ``error`` in all that wait now."""
        self._readers.fail(error, self._jobs.values())

    async def wait_until_wanted(self) -> bool:
        """Wait until a reply is waited for; False once the buffer is closed."""
        return await self._readers.wait_for_any()

    # The readers' side

    async def take(self, replies: JobReplies) -> Event | None:
        """The next event of the job, as soon as there is one; None after its end.

        Raises:
            ResponsesAway: the response daemon cannot be reached, or the client was closed.
        """
        while not replies.ended:
            if replies.latest:
                return replies.latest.pop(next(iter(replies.latest)))
            if replies.waiting:
                return self._take_next(replies)
            self._ack_all()
            await self._readers.wait(replies)
        return None

    def give_back(self, replies: JobReplies, event: Event | None) -> None:
        """``event`` was taken, and did not get to who took it: it is the next one again."""
        if event is None:
            return
        if isinstance(event, Done | Failed):
            replies.ended = False
            self._jobs[replies.job_id] = replies
        if not replies.ended:
            replies.waiting.appendleft(BufferedReply(event, _nothing))
            self._readers.wake(replies)

    def close(self) -> None:
        """Nothing comes any more."""
        self._readers.close(self._jobs.values())

    def _take_next(self, replies: JobReplies) -> Event:
        reply = replies.waiting.popleft()
        self._ack(reply)
        if isinstance(reply.event, Done | Failed):
            self._end(replies)
        return reply.event

    def _end(self, replies: JobReplies) -> None:
        replies.ended = True
        del self._jobs[replies.job_id]
        self._readers.wake(replies)  # another task may wait for the same job

    def _ack(self, reply: BufferedReply) -> None:
        if reply in self._unacked:
            self._unacked.discard(reply)
            reply.ack()

    def _ack_all(self) -> None:
        for reply in self._unacked:
            reply.ack()
        self._unacked.clear()


def _nothing() -> None:
    """The ack of what was acked when it was taken first."""
