"""What pika asks of an event loop.

Two things are our own: names are resolved by ``resolver``, and it is known which sockets are in use, for the sake of a
process that is forked and must leave them alone. pika has a place for this (``custom_ioloop``), but its own
implementation for asyncio begins with an underscore.
"""

from collections.abc import Callable
from typing import Any

from pika.adapters.asyncio_connection import _AsyncioIOServicesAdapter
from pika.adapters.utils.nbio_interface import AbstractIOReference

from stablediffusiond.resolver import resolve


class IoServices(_AsyncioIOServicesAdapter):
    """For one connection, on the running loop."""

    def __init__(self) -> None:
        super().__init__()
        #: Sockets that are waited for.
        self.descriptors: set[int] = set()

    def getaddrinfo(  # noqa: PLR0917 (the signature is pika's)
        self,
        host: str | bytes | None,
        port: str | bytes | int | None,
        on_done: Callable[[Any], object],
        family: int = 0,
        socktype: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> AbstractIOReference:
        asking = resolve(host, port, family=family, type=socktype, proto=proto, flags=flags)
        reference: AbstractIOReference = self._schedule_and_wrap_in_io_ref(asking, on_done)  # type: ignore[attr-defined]
        return reference

    def set_reader(self, fd: int, on_readable: Callable[[], object]) -> None:
        self.descriptors.add(fd)
        super().set_reader(fd, on_readable)

    def remove_reader(self, fd: int) -> bool:
        self.descriptors.discard(fd)
        return super().remove_reader(fd)

    def set_writer(self, fd: int, on_writable: Callable[[], object]) -> None:
        self.descriptors.add(fd)
        super().set_writer(fd, on_writable)
