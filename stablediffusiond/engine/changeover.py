"""Which model is loaded next, and which makes room for it: the policy, without torch, broker or clock.

In a sentence: *the model whose job has waited longest is loaded next, as soon as models that nothing is drawn with make
enough room, the longest unused first; one that is drawn with makes room only for a job that has waited longer than
``max_wait_seconds``, or that is of high priority, and then gets no further job until those that it has are done.*

So no model waits for ever, whatever is asked of the others; and as long as nobody waits too long, nothing is unloaded
that is in use. Only one model is loaded at a time.
"""

from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True)
class Resident:
    """A model that is on the device."""

    name: str
    nbytes: int
    jobs: int  #: that are drawn with it, or about to be
    last_used: float  #: by the clock of ``now``


@dataclass(frozen=True)
class Wanted:
    """A model that is not, and for which jobs wait."""

    name: str
    nbytes: int  #: as far as that can be told before it is loaded
    since: float  #: when the first of its jobs came
    urgent: bool = False  #: one of them is of high priority


@dataclass(frozen=True)
class Change:
    """What is to be done: load ``load`` as soon as none of ``unload``, which get no further job, has any left."""

    load: str
    unload: tuple[str, ...] = ()


def next_change(
    now: float, residents: Collection[Resident], wanted: Collection[Wanted], most_bytes: int, max_wait_seconds: float
) -> Change | None:
    """None: all that is wanted is there, or nothing is to make room yet."""
    for model in sorted(wanted, key=lambda each: (not each.urgent, each.since)):
        overdue = model.urgent or now - model.since >= max_wait_seconds
        unload = _make_room(residents, most_bytes - model.nbytes, overdue=overdue)
        if unload is not None:
            return Change(model.name, unload)
        if overdue:
            return None  # what comes after it must not take the room that it waits for
    return None


def surplus(residents: Collection[Resident], most_bytes: int) -> tuple[str, ...]:
    """Who is to go, of those in no use, the longest unused first: a model was larger than it seemed."""
    held = sum(each.nbytes for each in residents)
    gone: list[str] = []
    for each in sorted(residents, key=lambda each: each.last_used)[:-1]:
        if held <= most_bytes:
            break
        if not each.jobs:
            gone.append(each.name)
            held -= each.nbytes
    return tuple(gone)


def next_look(now: float, wanted: Collection[Wanted], max_wait_seconds: float) -> float | None:
    """Seconds until one of ``wanted`` is overdue, if none is yet; then there is to be looked again."""
    waits = [model.since + max_wait_seconds - now for model in wanted]
    later = [seconds for seconds in waits if seconds > 0]
    return min(later, default=None)


def _make_room(residents: Collection[Resident], room_bytes: int, *, overdue: bool) -> tuple[str, ...] | None:
    """Who is to go so that the others have no more than ``room_bytes``; None if that is not to be.

    A model that alone is larger than everything has the device for itself.
    """
    candidates = sorted(residents, key=lambda each: (each.jobs > 0, each.last_used))
    staying = sum(each.nbytes for each in residents)
    gone: list[str] = []
    for each in candidates:
        if staying <= room_bytes:
            break
        if each.jobs and not overdue:
            return None
        gone.append(each.name)
        staying -= each.nbytes
    return tuple(gone)
