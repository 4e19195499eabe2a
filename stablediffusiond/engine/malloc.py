"""Memory that torch frees on a CPU stays with the process, and is not fetched from the kernel again in every step.

A call of a network asks for hundreds of megabytes and gives them back, tensor by tensor. As it is, glibc returns such
pieces to the kernel at once, which then has to fill each page with noughts again: up to a quarter of a step's time.
mallopt(3); https://sourceware.org/glibc/manual/latest/html_node/Malloc-Tunable-Parameters.html
"""

import ctypes
from typing import Final

_TRIM_THRESHOLD: Final = -1
_MMAP_MAX: Final = -4
_ARENA_MAX: Final = -8
#: What may lie free at the end of the heap.
_KEPT_BYTES: Final = 2**30


def have_one_heap() -> None:
    """Have threads that begin later allocate from the main heap: others are given back whenever they are empty."""
    _set(_ARENA_MAX, 1)


def keep_freed_memory() -> None:
    """From now on."""
    _set(_MMAP_MAX, 0)
    _set(_TRIM_THRESHOLD, _KEPT_BYTES)


def _set(parameter: int, value: int) -> None:
    """Another C library has no such function, and its own ways."""
    if (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:
        mallopt(parameter, value)
