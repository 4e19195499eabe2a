"""Which model is loaded next, and which makes room for it: the policy, without torch, broker or clock.

In a sentence: *the model whose job has waited longest is loaded next, as soon as others make enough room, the longest
unused first: at once, if it has not been used for ``max_wait_seconds``; for a job that has waited half as long, if
nothing is drawn with it; for one that has waited ``max_wait_seconds``, or that is of high priority, in any case, and
then it gets no further job until those that it has are done.*

So no model waits for ever, whatever is asked of the others; and as long as nobody waits too long, nothing is unloaded
that is in use, or that is likely to be asked for again. In the meantime more jobs for the model that is waited for may
come, which one load serves. Only one model is loaded at a time.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

#: The part of ``max_wait_seconds`` for which a job waits until a model makes room that was used lately.
_PATIENCE: Final = 0.5


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
        waited_seconds = max_wait_seconds if model.urgent else now - model.since
        willing = [each for each in residents if _makes_room(now, each, waited_seconds, max_wait_seconds)]
        unload = _make_room(residents, willing, most_bytes - model.nbytes)
        if unload is not None:
            return Change(model.name, unload)
        if waited_seconds >= max_wait_seconds:
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


def next_look(
    now: float, residents: Collection[Resident], wanted: Collection[Wanted], max_wait_seconds: float
) -> float | None:
    """Seconds until ``next_change`` may decide otherwise, though nothing comes and nothing ends."""
    if not wanted:
        return None
    moments = [model.since + part * max_wait_seconds for model in wanted for part in (_PATIENCE, 1.0)]
    moments += [each.last_used + max_wait_seconds for each in residents if not each.jobs]
    return min((moment - now for moment in moments if moment > now), default=None)


def _makes_room(now: float, resident: Resident, waited_seconds: float, max_wait_seconds: float) -> bool:
    """Whether ``resident`` is to go for a job that has waited so long."""
    if resident.jobs:
        return waited_seconds >= max_wait_seconds
    return waited_seconds >= _PATIENCE * max_wait_seconds or now - resident.last_used >= max_wait_seconds


def _make_room(
    residents: Collection[Resident], willing: Collection[Resident], room_bytes: int
) -> tuple[str, ...] | None:
    """Who of ``willing`` is to go so that all others have no more than ``room_bytes``; None if that is not enough.

    A model that alone is larger than everything has the device for itself.
    """
    staying = sum(each.nbytes for each in residents)
    gone: list[str] = []
    for each in sorted(willing, key=lambda each: (each.jobs > 0, each.last_used)):
        if staying <= room_bytes:
            break
        gone.append(each.name)
        staying -= each.nbytes
    return tuple(gone) if staying <= max(room_bytes, 0) else None
