"""The replies to one job that have come and were not read yet."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from stablediffusiond.client.events import Event, Image, Preview
from stablediffusiond.messages.replies import Done, Failed, Progress

Ack = Callable[[], None]


@dataclass(eq=False)
class BufferedReply:
    event: Event
    ack: Ack


@dataclass(eq=False)
class JobReplies:
    """Made by ``ReplyBuffer.open``."""

    job_id: str
    waiting: deque[BufferedReply] = field(default_factory=deque)
    latest: dict[str, Event] = field(default_factory=dict)  #: progress and previews: only the newest of each counts
    seen: set[str] = field(default_factory=set)  #: indices of pictures, and the end
    early_end: BufferedReply | None = None  #: ``Done``, come before the last picture
    ended: bool = False  #: nothing more is to be read
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    readers: int = 0  #: who wait for it

    def add(self, reply: BufferedReply) -> None:
        """The end comes last. A connection that broke may give its pictures back when ``Done`` is past them."""
        if isinstance(reply.event, Done):
            self.early_end = reply
        else:
            self.waiting.append(reply)
        end = self.early_end
        if end is not None and isinstance(end.event, Done) and len(self.seen) > end.event.images:
            self.waiting.append(end)
            self.early_end = None

    def drop(self) -> list[BufferedReply]:
        """Keep nothing any more; returns what was kept."""
        dropped = [*self.waiting, *([self.early_end] if self.early_end is not None else [])]
        self.waiting.clear()
        self.latest.clear()
        self.early_end = None
        return dropped


def key(event: Event) -> str:
    """A reply that comes once, or a progress or preview, which replaces the one before it."""
    match event:
        case Image():
            return f"image {event.facts.index}"
        case Preview():
            return f"preview {event.facts.index}"
        case Progress():
            return "progress"
        case Done() | Failed():
            return "end"
