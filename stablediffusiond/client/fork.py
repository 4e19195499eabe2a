"""What a forked process inherits of its parent's clients, and what becomes of it there.

A child has a copy of every object and every descriptor, and none of the threads. Its clients have loops that no
thread runs, perhaps locks that no thread will release, and sockets that their parent goes on using: closing one there
(pika shuts it down first) ends the parent's connection, and takes it out of the epoll that both share. So clients begin
anew in a child, with a queue, connections and locks of their own. What they had is kept for ever and never touched,
and its descriptors are made to lead nowhere: then nothing does harm that closes them, and the other ends notice it
when the parent dies.
"""

import os
import weakref
from collections.abc import Callable, Iterable
from typing import Final

_methods: Final[set[weakref.WeakMethod[Callable[[], None]]]] = set()
_inherited: Final[list[object]] = []


def watch(begin_anew: Callable[[], None]) -> None:
    """Have this method of an object, if it still is, called in each child of this process before anything else runs."""
    _methods.add(weakref.WeakMethod(begin_anew, _methods.discard))


def disown(inherited: object, descriptors: Iterable[int]) -> None:
    """Keep what is a parent's from being collected, which would close it, and let go of the copies of its sockets."""
    _inherited.append(inherited)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in descriptors:
        os.dup2(nowhere, descriptor, inheritable=False)
    os.close(nowhere)


def _in_child() -> None:
    for method in list(_methods):
        if (begin_anew := method()) is not None:
            begin_anew()


if hasattr(os, "register_at_fork"):  # not where there is no fork
    os.register_at_fork(after_in_child=_in_child)
